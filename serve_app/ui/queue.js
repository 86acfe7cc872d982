/** Messages that wait above the message box: those on their way, and those whose turns come later. */

import { h, icon, setText } from "./dom.js";
import { showWay } from "./turn_view.js";

const HOW = { steer: "steers", interrupt: "goes first" };

export class Queue {
  #node;
  #title;
  #list;
  #actions;
  #rows = new Map();

  /**
   * `node` is the section of index.html. `actions` has edit(turn, text), which rejects when it is too late,
   * withdraw(turn), salvage(text) for words that were typed in vain, focus(), again(message) and takeBack(message).
   */
  constructor(node, actions) {
    this.#node = node;
    this.#title = node.querySelector("h2");
    this.#list = node.querySelector("ol");
    this.#actions = actions;
    this.clear();
  }

  clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#node.hidden = true;
  }

  /** Show turns that wait and, after them, messages that are on their way. */
  draw(turns, messages, paused) {
    const entries = [...turns, ...messages];
    for (const [entry, row] of this.#rows) if (!entries.includes(entry)) this.#remove(entry, row);
    entries.forEach((entry, index) => {
      const row = this.#rows.get(entry) ?? this.#add(entry);
      if (this.#list.children[index] !== row.node) this.#list.insertBefore(row.node, this.#list.children[index] ?? null);
      row.update();
    });
    this.#node.hidden = entries.length === 0;
    setText(this.#title, paused ? "Waiting until the session is resumed" : "Waiting for their turn");
  }

  #add(entry) {
    const row = "key" in entry ? new PendingRow(entry, this.#actions) : new WaitingRow(entry, this.#actions);
    this.#rows.set(entry, row);
    return row;
  }

  #remove(entry, row) {
    const focused = row.node.contains(document.activeElement);
    row.node.remove();
    this.#rows.delete(entry);
    row.leave?.();
    if (focused) this.#actions.focus();
  }
}

/** A message that is on its way to the server. */
class PendingRow {
  #message;
  #actions;
  #way = h("span", { class: "way", role: "status" });

  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    this.node = h("li", {}, h("span", { class: "words" }, message.text), this.#way);
  }

  update() {
    showWay(this.#way, this.#message, this.#actions);
  }
}

/** A message that the server has, and whose turn has not begun. */
class WaitingRow {
  #turn;
  #actions;
  #words = h("span", { class: "words" });
  #how = h("span", { class: "how" });
  #edit = action("edit", "Edit", () => this.#open());
  #withdraw = action("close", "Withdraw", () => this.#actions.withdraw(this.#turn));
  #editor = null;

  constructor(turn, actions) {
    this.#turn = turn;
    this.#actions = actions;
    this.node = h("li", {});
    this.#show();
  }

  update() {
    const { content, onBusy } = this.#turn;
    setText(this.#words, content);
    setText(this.#how, HOW[onBusy] ?? "");
    this.#edit.setAttribute("aria-label", `Edit “${brief(content)}”`);
    this.#withdraw.setAttribute("aria-label", `Withdraw “${brief(content)}”`);
  }

  /** Its turn has begun, or it was withdrawn. Words that were being typed are not lost. */
  leave() {
    const typed = this.#editor?.value.trim();
    if (typed && typed !== this.#turn.content) this.#actions.salvage(typed);
  }

  #show() {
    this.#editor = null;
    this.node.replaceChildren(this.#words, this.#how, this.#edit, this.#withdraw);
  }

  #open() {
    const { content } = this.#turn;
    this.#editor = h("textarea", { rows: Math.min(6, content.split("\n").length + 1), "aria-label": "Change the message" });
    this.#editor.value = content;
    const save = h("button", { type: "button", class: "primary", onclick: () => this.#save() }, "Save");
    const cancel = h("button", { type: "button", onclick: () => this.#close() }, "Cancel");
    this.#editor.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation(); // here it does not stop the turn
        this.#close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#save();
      }
    });
    this.node.replaceChildren(this.#editor, save, cancel);
    this.#editor.focus();
  }

  #close() {
    this.#show();
    this.#edit.focus();
  }

  async #save() {
    const typed = this.#editor.value.trim();
    if (!typed) return;
    if (typed === this.#turn.content) return this.#close();
    const editor = this.#editor;
    editor.readOnly = true;
    const saved = await this.#actions.edit(this.#turn, typed).then(() => true, () => false);
    editor.readOnly = false;
    if (saved && this.#editor === editor) this.#close();
  }
}

/** A button that has its icon alone on narrow windows. */
function action(name, label, onclick) {
  return h("button", { type: "button", class: "quiet", title: label, onclick }, icon(name), h("span", {}, label));
}

function brief(text) {
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}
