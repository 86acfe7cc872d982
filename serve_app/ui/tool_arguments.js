/** The arguments of a tool call, as people read them. */

import { fold, h } from "./dom.js";
import { codeBlock } from "./markdown.js";

/** Arguments that are programs, and their language. */
const CODE = { code: "python", command: "sh" };

/** The first line of the first argument. */
export function hintOf(input) {
  const values = parseObject(input);
  const first = values ? Object.values(values)[0] : input;
  const text = typeof first === "string" ? first : JSON.stringify(first ?? "");
  return text.split("\n").find((line) => line.trim()) ?? "";
}

/** `code` and `command` are shown as code and other arguments as names and values; what is not a JSON object, as it was written. */
export function argumentNodes(input) {
  const values = parseObject(input);
  if (!values) return input ? [fold(h("pre", { class: "output" }, input), input)] : [];
  const nodes = [];
  const rows = [];
  for (const [key, value] of Object.entries(values)) {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    if (key in CODE) nodes.push(fold(codeBlock(text, CODE[key]), text));
    else rows.push(h("dt", {}, key), h("dd", {}, fold(h("div", { class: "value" }, text), text)));
  }
  if (rows.length) nodes.push(h("dl", {}, ...rows));
  return nodes;
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
