/**
 * One tool call as a card: a line that says what and how, and behind it the arguments and the outcome. Where a person
 * is asked, the question stands beneath.
 */

import { ApprovalCard } from "./approval_card.js";
import { fold, h, icon, setText } from "./dom.js";
import { duration } from "./format.js";
import { argumentNodes, hintOf } from "./tool_arguments.js";

const LIVE_CHARS = 20_000;
const STATES = {
  requested: "waiting",
  asked: "waiting for you",
  running: "running",
  done: "done",
  failed: "failed",
  stopped: "stopped",
  denied: "denied",
  unknown: "outcome unknown",
};
const UNKNOWN = "The tool was running when its process was lost. Whether it did its work is not known; it is not run again.";

export class ToolCard {
  #card;
  #state = h("span", { class: "tool-state" });
  #name = h("span", { class: "tool-name" });
  #hint = h("span", { class: "tool-hint" });
  #input = h("div");
  #live = h("pre", { class: "live", tabindex: "0", "aria-label": "Output so far" });
  #outcome = h("div");
  #shown = { input: null, state: null };
  #touched = false;
  #approval = null;
  #actions;

  /** `actions` has decide(approval, decision, reason, onLost) and nameOf(user). */
  constructor(actions) {
    this.#actions = actions;
    const summary = h("summary", {}, icon("tool"), this.#name, this.#hint, this.#state, icon("chevron"));
    summary.addEventListener("click", () => (this.#touched = true));
    this.#card = h("details", { class: "tool" }, summary, h("div", { class: "tool-body" }, this.#input, this.#live, this.#outcome));
    this.node = h("div", { class: "call" }, this.#card);
  }

  update(item) {
    setText(this.#name, item.name);
    this.#showInput(item);
    this.#showProgress(item);
    this.#showApproval(item);
    const asked = item.status === "requested" && item.approval?.status === "pending";
    const state = asked ? "asked" : item.status;
    if (this.#shown.state === state) return;
    this.#shown.state = state;
    this.#card.dataset.state = state;
    const took = item.durationMs ? ` · ${duration(item.durationMs)}` : "";
    const words = state === "failed" ? `failed: ${item.error.replaceAll("_", " ")}` : STATES[state];
    setText(this.#state, state === "done" && took ? duration(item.durationMs) : words + took);
    if (state === "done") this.#state.prepend(h("span", { class: "offscreen" }, "done in "));
    this.#showOutcome(item);
  }

  #showApproval(item) {
    if (!item.approval) return;
    if (!this.#approval) {
      this.#approval = new ApprovalCard(this.#actions.decide);
      this.node.append(this.#approval.node);
    }
    this.#approval.update(item, this.#actions.nameOf);
  }

  #showInput({ input }) {
    if (this.#shown.input === input) return;
    this.#shown.input = input;
    setText(this.#hint, hintOf(input));
    this.#input.replaceChildren(...argumentNodes(input));
  }

  #showProgress({ output, status }) {
    const live = status === "running" && output.text !== "";
    if (live) {
      setText(this.#live, output.text.slice(-LIVE_CHARS));
      if (!this.#touched) this.#card.open = true;
    }
    this.#live.hidden = !live;
    this.#live.scrollTop = this.#live.scrollHeight;
  }

  #showOutcome(item) {
    const text = item.status === "unknown" ? UNKNOWN : (item.content ?? "");
    const parts = [];
    if (text) {
      const output = h("pre", { class: "output", tabindex: "0" }, text);
      parts.push(h("h5", {}, item.error && item.error !== "denied" ? "Error" : "Result"), fold(output, text));
    } else if (item.status === "stopped" && item.output.text) {
      parts.push(h("h5", {}, "Output until it was stopped"), fold(h("pre", { class: "output" }, item.output.text), item.output.text));
    }
    const facts = Object.entries(item.data ?? {}).filter(([, value]) => typeof value !== "object" && value !== false && value !== "ok");
    if (facts.length) {
      parts.push(h("p", { class: "facts" }, facts.map(factText).join(" · ")));
    }
    this.#outcome.replaceChildren(...parts);
    const over = item.status !== "requested" && item.status !== "running";
    if (over && !this.#touched) this.#card.open = item.status === "failed" || item.status === "unknown";
  }
}

/** `wall_s: 0.5` becomes "wall: 0.5 s". */
function factText([name, value]) {
  const [, words, unit] = /^(.*?)(?:_(s|ms|bytes))?$/.exec(name);
  return `${words.replaceAll("_", " ")}: ${value}${unit ? ` ${unit}` : ""}`;
}
