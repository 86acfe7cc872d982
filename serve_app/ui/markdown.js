/**
 * The Markdown that models write, as DOM nodes: headings, paragraphs, lists, quotes, tables, rules, fenced code;
 * bold, italic, struck, inline code, http(s) links. All else stays the text it is; images become links.
 */

import { copyButton, h } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]{0,9}([^\s`]{0,60})[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(\S.*)$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+)(?=\S)/;
const QUOTE = /^ {0,3}> ?/;
const DELIMITER_ROW = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;

// Spans are bounded in length, so that hostile text cannot make the search quadratic.
const INLINE = new RegExp(
  [
    /(?<!`)(?<ticks>`{1,9})(?!`)(?<code>[^]{1,1000}?)(?<!`)\k<ticks>(?!`)/,
    /\\(?<escaped>[\\`*_{}[\]()<>#+\-.!|~])/,
    /!?\[(?<label>[^[\]]{0,500})\]\(\s{0,9}<?(?<target>(?:[^\s()<>]|\([^\s()<>]{0,500}\)){1,2000})>?(?:\s[^()\n]{0,500})?\)/,
    /(?<url>https?:\/\/[^\s<>"'`]{1,2000})/,
    /\*\*(?=\S)(?<strong>[^]{1,1000}?)(?<=\S)\*\*(?!\*)/,
    /(?<!\w)__(?=\S)(?<strong2>[^]{1,1000}?)__(?!\w)/,
    /\*(?=[^\s*])(?<em>[^*]{0,1000}[^\s*])\*/,
    /(?<!\w)_(?=[^\s_])(?<em2>[^_]{0,1000}[^\s_])_(?!\w)/,
    /~~(?=\S)(?<struck>[^~]{1,1000})~~/,
  ].map((part) => part.source).join("|"),
  "g",
);
const NESTING = 8;

/** Make `container` show `text`. Blocks that are as they were keep their nodes, so streaming redraws only the end. */
export function renderMarkdown(container, text) {
  const blocks = splitBlocks(text.replaceAll("\r\n", "\n").split("\n"));
  blocks.forEach((block, index) => {
    const source = `${block.kind}\n${block.lines.join("\n")}`;
    const shown = container.children[index];
    if (shown?.markdownSource === source) return;
    const node = renderBlock(block, 0);
    node.markdownSource = source;
    if (shown) shown.replaceWith(node);
    else container.append(node);
  });
  while (container.children.length > blocks.length) container.lastElementChild.remove();
}

function splitBlocks(lines) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const kind = kindOf(lines, at);
    const end = ENDS[kind](lines, at);
    blocks.push({ kind, lines: lines.slice(at, end) });
    at = end;
  }
  return blocks;
}

function kindOf(lines, at) {
  const line = lines[at];
  if (FENCE.test(line)) return "fence";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (QUOTE.test(line)) return "quote";
  if (ITEM.test(line)) return "list";
  if (line.includes("|") && DELIMITER_ROW.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) return "table";
  return "paragraph";
}

function scan(lines, at, belongs) {
  let end = at + 1;
  while (end < lines.length && belongs(lines[end], end)) end += 1;
  return end;
}

/** Where the block that starts at a line ends, by kind. */
const ENDS = {
  heading: (lines, at) => at + 1,
  rule: (lines, at) => at + 1,
  fence(lines, at) {
    const closing = closingFence(lines[at]);
    return Math.min(scan(lines, at, (line) => !closing.test(line)) + 1, lines.length);
  },
  quote: (lines, at) => scan(lines, at, (line) => QUOTE.test(line)),
  table: (lines, at) => scan(lines, at, (line) => line.includes("|")),
  list(lines, at) {
    const [, { length: indent }, marker] = ITEM.exec(lines[at]);
    const inner = (line) => /^\s*/.exec(line)[0].length > indent + 1;
    const sibling = (line) => ITEM.test(line) && /\d/.test(ITEM.exec(line)[2]) === /\d/.test(marker);
    return scan(lines, at, (line, index) => {
      if (!line.trim()) return inner(lines[index + 1] ?? "") || sibling(lines[index + 1] ?? "");
      return inner(line) || sibling(line) || (lines[index - 1].trim() && kindOf(lines, index) === "paragraph");
    });
  },
  paragraph: (lines, at) => scan(lines, at, (line, index) => line.trim() && kindOf(lines, index) === "paragraph"),
};

function renderBlock({ kind, lines }, depth) {
  switch (kind) {
    case "fence":
      return fence(lines);
    case "heading": {
      const [, marks, text] = HEADING.exec(lines[0]);
      const title = inline(text.trimEnd().replace(/ #+$/, ""));
      return h(`h${Math.min(marks.length + 2, 6)}`, { class: `level-${marks.length}` }, ...title);
    }
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", {}, ...nested(lines.map((line) => line.replace(QUOTE, "")), depth));
    case "list":
      return list(lines, depth);
    case "table":
      return table(lines);
    default:
      return h("p", {}, ...inline(lines.join("\n")));
  }
}

function nested(lines, depth) {
  if (depth >= NESTING) return [lines.join("\n")];
  return splitBlocks(lines).map((block) => renderBlock(block, depth + 1));
}

function closingFence(opening) {
  const mark = FENCE.exec(opening)[1];
  return new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}\\s*$`);
}

function fence(lines) {
  const closed = lines.length > 1 && closingFence(lines[0]).test(lines.at(-1));
  return codeBlock(lines.slice(1, closed ? -1 : undefined).join("\n"), FENCE.exec(lines[0])[2]);
}

/** Code with its language and a copy button. */
export function codeBlock(code, language) {
  const bar = h("div", { class: "code-bar" }, h("span", {}, language || "text"), copyButton("Copy code", () => code));
  return h("div", { class: "code" }, bar, h("pre", { tabindex: "0" }, h("code", {}, code)));
}

function list(lines, depth) {
  const items = [];
  const [first, indent, marker] = ITEM.exec(lines[0]);
  let width = first.length;
  for (const line of lines) {
    const match = ITEM.exec(line);
    if (match && match[1].length <= indent.length + 1) {
      width = match[0].length;
      items.push([line.slice(width)]);
    } else {
      const spaces = /^\s*/.exec(line)[0].length;
      items.at(-1).push(line.slice(Math.min(width, spaces)));
    }
  }
  const ordered = /\d/.test(marker);
  const start = ordered && Number.parseInt(marker, 10) !== 1 ? String(Number.parseInt(marker, 10)) : null;
  return h(ordered ? "ol" : "ul", { start }, ...items.map((item) => h("li", {}, ...itemContent(item, depth))));
}

function itemContent(lines, depth) {
  const [first, ...rest] = nested(lines, depth);
  const tight = first?.tagName === "P" && (rest.length === 0 || rest.every((node) => /^[OU]L$/.test(node.tagName)));
  return tight ? [...first.childNodes, ...rest] : [first, ...rest];
}

function table(lines) {
  const [head, delimiters, ...rows] = lines.map(cells);
  const aligned = delimiters.map((cell) => {
    if (/^:.*:$/.test(cell)) return "center";
    return cell.endsWith(":") ? "end" : null;
  });
  const row = (tag, texts) =>
    h("tr", {}, ...head.map((_, column) => h(tag, { class: aligned[column] }, ...inline(texts[column] ?? ""))));
  const body = h("tbody", {}, ...rows.map((texts) => row("td", texts)));
  return h("div", { class: "table", tabindex: "0" }, h("table", {}, h("thead", {}, row("th", head)), body));
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function inline(text, depth = 0) {
  if (depth > NESTING) return [text];
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > at) nodes.push(text.slice(at, match.index));
    nodes.push(...span(match, depth));
    at = match.index + match[0].length;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

function span({ 0: whole, groups }, depth) {
  if (groups.code !== undefined) return [h("code", {}, groups.code.replace(/^ (.*\S.*) $/s, "$1"))];
  if (groups.escaped !== undefined) return [groups.escaped];
  if (groups.target !== undefined) {
    const label = inline(groups.label || groups.target, depth + 1);
    return [link(groups.target, label.map((node) => (node.tagName === "A" ? node.textContent : node))) ?? whole];
  }
  if (groups.url !== undefined) {
    const url = groups.url.replace(groups.url.includes("(") ? /[.,;:!?*]+$/ : /[.,;:!?)\]*_~]+$/, "");
    return [link(url, [url]) ?? url, groups.url.slice(url.length)];
  }
  const strong = groups.strong ?? groups.strong2;
  if (strong !== undefined) return [h("strong", {}, ...inline(strong, depth + 1))];
  const emphasis = groups.em ?? groups.em2;
  if (emphasis !== undefined) return [h("em", {}, ...inline(emphasis, depth + 1))];
  return [h("del", {}, ...inline(groups.struck, depth + 1))];
}

/** An anchor, or null when the address is not http(s). */
function link(target, children) {
  if (!URL.canParse(target) || !/^https?:$/.test(new URL(target).protocol)) return null;
  return h("a", { href: target, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}
