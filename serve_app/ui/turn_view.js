/** One turn on the page: the user's message, the answer's parts as they come, and how it ended. */

import { copyButton, fold, h, icon, setText } from "./dom.js";
import { duration, spentText } from "./format.js";
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
  #note = h("p", { class: "note", hidden: true });
  #items = h("div", { class: "items" });
  #views = new Map();
  #waiting = h("p", { class: "waiting" }, h("span", { class: "pulse" }), h("span", {}, "Thinking"));
  #ending = h("div", { class: "ending" });
  #endingOf = null;
  #actions;

  /** `actions` has retry(text) and cancel(turnId). */
  constructor(actions) {
    this.#actions = actions;
    this.badge = h("span", { class: "badge" });
    this.node = h(
      "section",
      { class: "turn" },
      h("div", { class: "user" }, h("h2", { class: "offscreen" }, "You"), this.#user, this.badge),
      h("div", { class: "assistant" }, h("h2", { class: "offscreen" }, "Greenroom"), this.#items, this.#note, this.#waiting, this.#ending),
    );
  }

  /** `queued`: an earlier turn of the session is still open. */
  update(turn, queued) {
    this.node.dataset.status = turn.status;
    this.#showUser(turn.content);
    this.#showBadge(turn, queued);
    this.#showItems(turn);
    const note = turn.recoveries ? "The process that ran this turn was lost. Another one went on with it." : "";
    setText(this.#note, note);
    this.#note.hidden = !note;
    const last = turn.items.at(-1);
    const writing = last?.kind === "message" && last.content === null && last.answer.text !== "";
    this.#waiting.hidden = turn.ended || queued || writing || last?.status === "running";
    setText(this.#waiting.lastChild, turn.stopping ? "Stopping" : "Thinking");
    this.#showEnding(turn);
  }

  /** A message that is on its way to the server. */
  updatePending(text) {
    this.node.dataset.status = "pending";
    this.#showUser(text);
    this.badge.replaceChildren("Sending");
    this.#waiting.hidden = true;
  }

  #showUser(text) {
    if (this.#user.dataset.done) return;
    const node = h("div", { class: "plain" }, text);
    this.#user.replaceChildren(fold(node, text, 20));
    this.#user.dataset.done = "true";
  }

  #showBadge(turn, queued) {
    if (this.badge.dataset.queued === String(queued)) return;
    this.badge.dataset.queued = String(queued);
    if (!queued) return this.badge.replaceChildren();
    const remove = h("button", { type: "button", class: "quiet", onclick: () => this.#actions.cancel(turn.id) }, "Remove");
    return this.badge.replaceChildren("Queued", remove);
  }

  #showItems(turn) {
    for (const [item, view] of this.#views) {
      if (turn.items.includes(item)) continue;
      view.node.remove();
      this.#views.delete(item);
    }
    for (const item of turn.items) {
      if (!this.#views.has(item)) {
        const view = item.kind === "tool" ? new ToolCard() : new MessageView();
        this.#views.set(item, view);
        this.#items.append(view.node);
      }
      this.#views.get(item).update(item, turn);
    }
  }

  #showEnding(turn) {
    if (this.#endingOf === turn.status) return;
    this.#endingOf = turn.status;
    const parts = [];
    if (turn.status === "failed") parts.push(this.#failure(turn));
    if (turn.status === "completed" && turn.stopReason in STOP_REASONS) parts.push(notice(STOP_REASONS[turn.stopReason]));
    if (turn.status === "cancelled") parts.push(notice(stoppedText(turn)));
    if (turn.ended && turn.startedAt) parts.push(footer(turn));
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

function cutShort(item, turn) {
  if (item.content === null) return turn.ended ? "This answer was not finished and is not kept in the session." : "";
  if (item.finish === "interrupted") return "This answer was broken off.";
  return ["stop", "tool_calls"].includes(item.finish) ? "" : `The model's answer was cut short (${item.finish}).`;
}

function stoppedText({ startedAt, stopped, spent }) {
  if (!startedAt) return "Removed before it was started.";
  const what = stopped.map((name) => (name === "model" ? "the model" : name)).join(" and ");
  return `Stopped ${what || "by you"}. Spent: ${spentText(spent)}.`;
}

function notice(text) {
  return h("p", { class: "note" }, text);
}

function footer(turn) {
  const answer = turn.items.filter((item) => item.kind === "message" && item.content).map((item) => item.content).join("\n\n");
  const facts = [turn.model, turn.status === "cancelled" ? null : spentText(turn.spent)];
  facts.push(duration(Date.parse(turn.finishedAt) - Date.parse(turn.startedAt)));
  const line = h("span", { class: "spent" }, facts.filter(Boolean).join(" · "));
  return h("footer", {}, answer ? copyButton("Copy the answer", () => answer) : null, line);
}
