/** Charts in SVG, drawn by hand: bars that stack, with a legend, a reading by arrow keys, and all of it as a table. */

import { h, setText } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220;
const LEFT = 64;
const RIGHT = 18;
const BOTTOM = 26;
const TOP = 10;
const TICKS = 4;
const LABEL_WIDTH = 64;

/** Colours, by the order of the names; the last name may be `OTHERS`, which is grey. */
export const OTHERS = "others";
const COLOURS = 7;

function colour(names, name) {
  return name === OTHERS ? "c-others" : `c-${names.indexOf(name) % COLOURS}`;
}

function s(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The next round number: 1, 2 or 5 times a power of ten. */
export function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
}

/**
 * A figure. `periods` are `{ label, values }`, where `values` maps names to numbers; `names` are in the order in which
 * they stack, from below. `format` makes text of a number.
 */
export function stackedBars({ caption, periods, names, format }) {
  const total = ({ values }) => Object.values(values).reduce((sum, value) => sum + value, 0);
  const most = Math.max(...periods.map(total), 0);
  const step = roundUp(most / TICKS);
  const ticks = Math.max(1, Math.ceil(most / step));
  const top = step * ticks;
  const svg = s("svg", { class: "plot", height: HEIGHT, "aria-hidden": "true" });
  const said = h("p", { class: "said", "aria-live": "polite" });
  const hint = "Left and right arrow keys read single periods. A table follows.";
  const stage = h("div", { class: "stage", role: "group", tabindex: "0", "aria-label": `${caption}. ${hint}` }, svg);
  let chosen = -1;
  let width = 0;

  const slot = () => (width - LEFT - RIGHT) / periods.length;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);

  function draw() {
    svg.setAttribute("width", width);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren();
    for (let tick = 0; tick <= ticks; tick += 1) {
      const at = y(tick * step);
      svg.append(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      svg.append(s("text", { class: "axis", x: LEFT - 8, y: at + 4, "text-anchor": "end" }, format(tick * step)));
    }
    const every = Math.ceil(LABEL_WIDTH / slot());
    periods.forEach((period, at) => {
      const x = LEFT + at * slot();
      if (at === chosen) svg.append(s("rect", { class: "chosen", x, width: slot(), y: TOP, height: HEIGHT - TOP - BOTTOM }));
      let below = 0;
      for (const name of names) {
        const value = period.values[name] ?? 0;
        if (!value) continue;
        const height = Math.max(y(below) - y(below + value), 1);
        const bar = { x: x + slot() * 0.14, width: slot() * 0.72, y: y(below) - height, height, rx: Math.min(2, height / 2) };
        svg.append(s("rect", { class: colour(names, name), ...bar }));
        below += value;
      }
      if ((periods.length - 1 - at) % every === 0) {
        svg.append(s("text", { class: "axis", x: x + slot() / 2, y: HEIGHT - 8, "text-anchor": "middle" }, period.label));
      }
    });
  }

  function choose(at) {
    if (at === chosen) return;
    chosen = at;
    const period = periods[at];
    const parts = period ? names.filter((name) => period.values[name]).map((name) => `${name} ${format(period.values[name])}`) : [];
    setText(said, period ? `${period.label}: ${format(total(period))}${parts.length > 1 ? ` (${parts.join(", ")})` : ""}` : "");
    draw();
  }

  stage.addEventListener("keydown", (event) => {
    const last = periods.length - 1;
    const from = chosen < 0 ? last + 1 : chosen;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(Math.min(last, Math.max(0, to)));
  });
  stage.addEventListener("pointermove", ({ clientX }) => {
    const at = Math.floor((clientX - stage.getBoundingClientRect().left - LEFT) / slot());
    choose(at >= 0 && at < periods.length ? at : -1);
  });
  stage.addEventListener("pointerleave", () => choose(-1));
  stage.addEventListener("blur", () => choose(-1));
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = Math.max(contentRect.width, LEFT + RIGHT + periods.length);
    draw();
  }).observe(stage);

  return h("figure", {}, stage, said, legend(names), asTable(caption, periods, names, format));
}

function legend(names) {
  const items = names.map((name) => h("li", {}, h("span", { class: `key ${colour(names, name)}` }), name));
  return h("ul", { class: "legend", "aria-hidden": "true" }, ...items);
}

function asTable(caption, periods, names, format) {
  const rows = [...periods].reverse().filter(({ values }) => Object.keys(values).length);
  const cells = (values) => names.map((name) => h("td", {}, values[name] === undefined ? "" : format(values[name])));
  return h(
    "details",
    {},
    h("summary", {}, "As a table"),
    table(caption, ["Period", ...names], rows.map(({ label, values }) => [label, ...cells(values)])),
  );
}

/** A table that scrolls by itself when it is wide. A row's first cell is its header; cells are text or `td` nodes. */
export function table(caption, heads, rows) {
  const cell = (content) => (content instanceof HTMLElement && content.tagName === "TD" ? content : h("td", {}, content));
  const body = rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), ...rest.map(cell)));
  return h(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "offscreen" }, caption),
      h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, ...body),
    ),
  );
}

/** A bar for a share between 0 and 1, in a cell of its own. */
export function shareCell(share) {
  const svg = s("svg", { class: "share", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(s("rect", { class: "grid", width: 100, height: 8, rx: 2 }), s("rect", { class: "c-0", width: 100 * (share ?? 0), height: 8, rx: 2 }));
  return h("td", { class: "shared" }, svg, h("span", {}, share === null ? "" : `${Math.round(100 * share)} %`));
}

/** A budget: what was spent of it, and what is held. */
export function gauge({ name, spent, reserved, limit, text }) {
  const svg = s("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const part = (value) => Math.min(100, (100 * value) / (limit || Infinity));
  svg.append(s("rect", { class: "grid", width: 100, height: 8, rx: 2 }));
  svg.append(s("rect", { class: "held", width: part(spent + reserved), height: 8, rx: 2 }));
  svg.append(s("rect", { class: part(spent) >= 80 ? "nearly" : "c-0", width: part(spent), height: 8, rx: 2 }));
  const value = { role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 };
  const meter = h("div", { ...value, "aria-valuenow": Math.round(part(spent + reserved)), "aria-valuetext": text }, svg);
  return h("li", { class: "gauge" }, h("h3", {}, name), limit === null ? null : meter, h("p", {}, text));
}
