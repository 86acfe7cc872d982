/** Making DOM nodes. Text becomes text nodes only, so nothing that a model wrote is ever parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes named `on…` take a listener; null, undefined and false leave an attribute or child out. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** One of the symbols that index.html defines. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Set text only when it differs: writing the same text again would drop the reader's selection. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A button that copies what `read` returns, and says so for two seconds. */
export function copyButton(label, read) {
  const text = h("span", {}, "Copy");
  const button = h("button", { type: "button", class: "quiet copy", "aria-label": label }, icon("copy"), text);
  button.addEventListener("click", async () => {
    setText(text, (await copy(read())) ? "Copied" : "Not copied");
    setTimeout(() => setText(text, "Copy"), 2000);
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  // Pages on plain HTTP other than localhost have no clipboard API.
  const area = h("textarea", { class: "offscreen", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** Fold `node` when its text is longer than `lines`, with a button beneath that opens and closes it. */
export function fold(node, text, lines = 14) {
  const count = text.split("\n").length;
  if (count <= lines && text.length <= lines * 160) return node;
  const more = count > lines ? `Show all ${count.toLocaleString("en")} lines` : "Show all";
  const button = h("button", { type: "button", class: "quiet unfold", "aria-expanded": "false" }, more);
  button.addEventListener("click", () => {
    const open = node.classList.toggle("folded") === false;
    button.setAttribute("aria-expanded", String(open));
    setText(button, open ? "Show less" : more);
  });
  node.classList.add("folded");
  return h("div", { class: "foldable" }, node, button);
}
