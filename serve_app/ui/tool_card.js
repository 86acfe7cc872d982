/** One tool call as a card: a line that says what and how, and behind it the arguments and the outcome. */

import { fold, h, icon, setText } from "./dom.js";
import { duration } from "./format.js";
import { codeBlock } from "./markdown.js";

const LIVE_CHARS = 20_000;
const STATES = {
  requested: "waiting",
  running: "running",
  done: "done",
  failed: "failed",
  stopped: "stopped",
  unknown: "outcome unknown",
};
/** Arguments that are programs, and their language. */
const CODE = { code: "python", command: "sh" };
const UNKNOWN = "The tool was running when its process was lost. Whether it did its work is not known; it is not run again.";

export class ToolCard {
  #state = h("span", { class: "tool-state" });
  #name = h("span", { class: "tool-name" });
  #hint = h("span", { class: "tool-hint" });
  #input = h("div");
  #live = h("pre", { class: "live", tabindex: "0", "aria-label": "Output so far" });
  #outcome = h("div");
  #shown = { input: null, status: null };
  #touched = false;

  constructor() {
    const summary = h("summary", {}, icon("tool"), this.#name, this.#hint, this.#state, icon("chevron"));
    summary.addEventListener("click", () => (this.#touched = true));
    this.node = h("details", { class: "tool" }, summary, h("div", { class: "tool-body" }, this.#input, this.#live, this.#outcome));
  }

  update(item) {
    setText(this.#name, item.name);
    this.#showInput(item);
    this.#showProgress(item);
    if (this.#shown.status === item.status) return;
    this.#shown.status = item.status;
    this.node.dataset.state = item.status;
    const took = item.durationMs ? ` · ${duration(item.durationMs)}` : "";
    const state = item.status === "failed" ? `failed: ${item.error.replaceAll("_", " ")}` : STATES[item.status];
    setText(this.#state, item.status === "done" && took ? duration(item.durationMs) : state + took);
    if (item.status === "done") this.#state.prepend(h("span", { class: "offscreen" }, "done in "));
    this.#showOutcome(item);
  }

  #showInput({ input }) {
    if (this.#shown.input === input) return;
    this.#shown.input = input;
    const values = parseObject(input);
    setText(this.#hint, hintOf(values, input));
    this.#input.replaceChildren(...inputNodes(values, input));
  }

  #showProgress({ output, status }) {
    const live = status === "running" && output.text !== "";
    if (live) {
      setText(this.#live, output.text.slice(-LIVE_CHARS));
      if (!this.#touched) this.node.open = true;
    }
    this.#live.hidden = !live;
    this.#live.scrollTop = this.#live.scrollHeight;
  }

  #showOutcome(item) {
    const text = item.status === "unknown" ? UNKNOWN : (item.content ?? "");
    const parts = [];
    if (text) {
      const output = h("pre", { class: "output", tabindex: "0" }, text);
      parts.push(h("h5", {}, item.error ? "Error" : "Result"), fold(output, text));
    } else if (item.status === "stopped" && item.output.text) {
      parts.push(h("h5", {}, "Output until it was stopped"), fold(h("pre", { class: "output" }, item.output.text), item.output.text));
    }
    const facts = Object.entries(item.data ?? {}).filter(([, value]) => typeof value !== "object" && value !== false && value !== "ok");
    if (facts.length) {
      parts.push(h("p", { class: "facts" }, facts.map(factText).join(" · ")));
    }
    this.#outcome.replaceChildren(...parts);
    const over = item.status !== "requested" && item.status !== "running";
    if (over && !this.#touched) this.node.open = item.status === "failed" || item.status === "unknown";
  }
}

/** `wall_s: 0.5` becomes "wall: 0.5 s". */
function factText([name, value]) {
  const [, words, unit] = /^(.*?)(?:_(s|ms|bytes))?$/.exec(name);
  return `${words.replaceAll("_", " ")}: ${value}${unit ? ` ${unit}` : ""}`;
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function hintOf(values, input) {
  const first = values ? Object.values(values)[0] : input;
  const text = typeof first === "string" ? first : JSON.stringify(first ?? "");
  return text.split("\n").find((line) => line.trim()) ?? "";
}

/** `code` and `command` are shown as code and other arguments as names and values; what is not a JSON object, as it was written. */
function inputNodes(values, input) {
  if (!values) return input ? [fold(h("pre", { class: "output" }, input), input)] : [];
  const nodes = [];
  const rows = [];
  for (const [key, value] of Object.entries(values)) {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    if (key in CODE) nodes.push(codeBlock(text, CODE[key]));
    else rows.push(h("dt", {}, key), h("dd", {}, fold(h("div", { class: "value" }, text), text)));
  }
  if (rows.length) nodes.push(h("dl", {}, ...rows));
  return nodes;
}
