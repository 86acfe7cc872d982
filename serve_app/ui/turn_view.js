/** One turn on the page: the user's message, the answer's parts as they come, and how it ended. */

import { copyButton, fold, h, icon, setText } from "./dom.js";
import { duration, spentText, totalTokens } from "./format.js";
import { renderMarkdown } from "./markdown.js";
import { ToolCard } from "./tool_card.js";

const STOP_REASONS = {
  max_steps: "Stopped: the turn reached its limit of model calls.",
  max_tokens: "Stopped: the turn reached its token limit.",
  max_cost: "Stopped: the turn reached its cost limit.",
  timeout: "Stopped: the turn reached its time limit.",
  refusal: "The model declined to answer.",
};

export class TurnView {
  #user = h("div", { class: "user-text" });
  #shownUser = null;
  #badge = h("span", { class: "badge", role: "status" });
  #note = h("p", { class: "note", hidden: true });
  #items = h("div", { class: "items" });
  #views = new Map();
  #waiting = h("p", { class: "waiting" }, h("span", { class: "pulse" }), h("span", {}, "Thinking"));
  #ending = h("div", { class: "ending" });
  #endingOf = null;
  #actions;

  /**
   * `actions` has retry(text), fork(turn), decide(approval, decision, reason, onLost), nameOf(user), and for a
   * message that is on its way again(message) and takeBack(message).
   */
  constructor(actions) {
    this.#actions = actions;
    this.node = h(
      "section",
      { class: "turn" },
      h("div", { class: "user" }, h("h2", { class: "offscreen" }, "You"), this.#user, this.#badge),
      h("div", { class: "assistant" }, h("h2", { class: "offscreen" }, "Greenroom"), this.#items, this.#note, this.#waiting, this.#ending),
    );
  }

  update(turn) {
    this.node.dataset.status = turn.status;
    this.#showUser(turn.content);
    this.#showItems(turn);
    const note = turn.recoveries ? "The process that ran this turn was lost. Another one went on with it." : "";
    setText(this.#note, note);
    this.#note.hidden = !note;
    const last = turn.items.at(-1);
    const writing = last?.kind === "message" && last.content === null && last.answer.text !== "";
    const asks = turn.items.some((item) => item.approval?.status === "pending"); // the question itself says so
    this.#waiting.hidden = turn.ended || writing || last?.status === "running" || asks;
    this.#waiting.dataset.paused = String(turn.waitingFor !== null);
    const words = turn.waitingFor ? "Paused; it goes on when you resume the session" : "Thinking";
    setText(this.#waiting.lastChild, turn.stopping ? "Stopping" : words);
    this.#showEnding(turn);
  }

  /** A message that is on its way to the server. */
  updatePending(message) {
    this.node.dataset.status = "pending";
    this.#showUser(message.text);
    showWay(this.#badge, message, this.#actions);
    this.#waiting.hidden = true;
  }

  #showUser(text) {
    if (this.#shownUser === text) return;
    this.#shownUser = text;
    const node = h("div", { class: "plain" }, text);
    this.#user.replaceChildren(fold(node, text, 20));
  }

  #showItems(turn) {
    for (const [item, view] of this.#views) {
      if (turn.items.includes(item)) continue;
      view.node.remove();
      this.#views.delete(item);
    }
    for (const item of turn.items) {
      if (!this.#views.has(item)) {
        const view = this.#viewOf(item);
        this.#views.set(item, view);
        this.#items.append(view.node);
      }
      this.#views.get(item).update(item, turn);
    }
  }

  #viewOf({ kind }) {
    if (kind === "tool") return new ToolCard(this.#actions);
    return kind === "said" ? new SaidView() : new MessageView();
  }

  #showEnding(turn) {
    if (this.#endingOf === turn.status) return;
    this.#endingOf = turn.status;
    const parts = [];
    if (turn.status === "failed") parts.push(this.#failure(turn));
    if (turn.status === "completed" && turn.stopReason in STOP_REASONS) parts.push(notice(STOP_REASONS[turn.stopReason]));
    if (turn.status === "cancelled") parts.push(notice(stoppedText(turn)));
    if (turn.ended && turn.startedAt) parts.push(footer(turn, this.#actions.fork));
    this.#ending.replaceChildren(...parts);
  }

  #failure(turn) {
    const retry = h("button", { type: "button", class: "retry", onclick: () => this.#actions.retry(turn.content) }, icon("retry"), "Retry");
    const words = h("p", {}, h("strong", {}, "This turn failed. "), turn.error.message);
    return h("div", { class: "failure" }, icon("warning"), h("div", {}, words, h("code", {}, turn.error.code)), retry);
  }
}

class MessageView {
  #thought = h("div", { class: "plain" });
  #reasoning = h("details", { class: "reasoning", hidden: true }, h("summary", {}, icon("chevron"), "Reasoning"), this.#thought);
  #text = h("div", { class: "markdown" });
  #cut = h("p", { class: "note", hidden: true });
  #shown = null;

  constructor() {
    this.node = h("div", { class: "message" }, this.#reasoning, this.#text, this.#cut);
  }

  update(item, turn) {
    const thought = item.reasoning || item.thought.text;
    setText(this.#thought, thought);
    this.#reasoning.hidden = !thought;
    const text = item.content ?? item.answer.text;
    if (this.#shown !== text) renderMarkdown(this.#text, text);
    this.#shown = text;
    this.node.hidden = !text && !thought;
    const writing = item.content === null && !turn.ended;
    this.node.classList.toggle("writing", writing && text !== "");
    setText(this.#cut, cutShort(item, turn));
    this.#cut.hidden = this.#cut.textContent === "";
  }
}

/** What the user said while the turn ran. */
class SaidView {
  #text = h("div", { class: "user-text" });
  #shown = null;

  constructor() {
    const note = h("span", { class: "badge" }, "Taken into the running turn");
    this.node = h("div", { class: "user said" }, h("h3", { class: "offscreen" }, "You"), this.#text, note);
  }

  update({ content }) {
    if (this.#shown === content) return;
    this.#shown = content;
    this.#text.replaceChildren(fold(h("div", { class: "plain" }, content), content, 20));
  }
}

/** Where a message is on its way; once it was given up, what can be done with it. */
export function showWay(node, message, { again, takeBack }) {
  if (node.dataset.way === message.state) return;
  node.dataset.way = message.state;
  const actions = [button("Send again", () => again(message)), button("Take back", () => takeBack(message))];
  node.classList.toggle("problem", message.failed);
  node.replaceChildren(h("span", {}, message.state), ...(message.failed ? actions : []));
}

function button(label, onclick) {
  return h("button", { type: "button", class: "quiet", onclick }, label);
}

function cutShort(item, turn) {
  if (item.content === null) return turn.ended ? "This answer was not finished and is not kept in the session." : "";
  if (item.finish === "interrupted") return "This answer was broken off.";
  return ["stop", "tool_calls"].includes(item.finish) ? "" : `The model's answer was cut short (${item.finish}).`;
}

function stoppedText({ stopped, spent }) {
  const what = stopped.map((name) => (name === "model" ? "the model" : name)).join(" and ");
  return `Stopped ${what || "by you"}. Spent: ${spentText(spent)}.`;
}

function notice(text) {
  return h("p", { class: "note" }, text);
}

function footer(turn, fork) {
  const answer = turn.items.filter((item) => item.kind === "message" && item.content).map((item) => item.content).join("\n\n");
  const spent = turn.status === "cancelled" || totalTokens(turn.spent) === 0 ? null : spentText(turn.spent);
  const took = duration(Date.parse(turn.finishedAt) - Date.parse(turn.startedAt));
  const line = h("span", { class: "spent" }, [turn.model, spent, took].filter(Boolean).join(" · "));
  return h("footer", {}, answer ? copyButton("Copy the answer", () => answer) : null, forkButton(turn, fork), line);
}

function forkButton(turn, fork) {
  const title = "Open a new session that begins with everything up to here";
  const node = h("button", { type: "button", class: "quiet fork", title }, icon("fork"), "Fork from here");
  node.addEventListener("click", async () => {
    if (node.getAttribute("aria-busy")) return;
    node.setAttribute("aria-busy", "true");
    await fork(turn);
    node.removeAttribute("aria-busy");
  });
  return node;
}
