/** The transcript: lines on what came before, the turns in the order in which they began, and a message on its way. */

import { h, setText } from "./dom.js";
import { day } from "./format.js";
import { TurnView } from "./turn_view.js";

export class Transcript {
  #node;
  #actions;
  #views = new Map();
  #pending = null; // the view of a message on its way
  #origin = h("p", { class: "note before", hidden: true });
  #trimmed = h("p", { class: "note before", hidden: true });

  /** `actions` are those of a TurnView. */
  constructor(node, actions) {
    this.#node = node;
    this.#actions = actions;
    this.clear();
  }

  clear() {
    this.#views.clear();
    this.#pending = null;
    this.#node.replaceChildren(this.#origin, this.#trimmed);
  }

  /** Draw the turns that changed; those that only wait are not shown here. */
  draw(conversation, changed) {
    const place = (turn) => turn.place ?? Infinity;
    for (const turn of [...changed].sort((one, other) => place(one) - place(other) || 0)) {
      if (conversation.shows(turn)) this.#viewOf(turn).update(turn);
      else this.#remove(turn);
    }
    const { trimmed } = conversation;
    this.#trimmed.hidden = !trimmed;
    if (trimmed) setText(this.#trimmed, trimmedText(trimmed));
  }

  /** Show a message that is on its way, or none. */
  drawPending(message) {
    if (!message) {
      this.#pending?.node.remove();
      this.#pending = null;
      return;
    }
    if (this.#pending?.message !== message) {
      this.#pending?.node.remove();
      this.#pending = new TurnView(this.#actions);
      this.#pending.message = message;
      this.#node.append(this.#pending.node);
    }
    this.#pending.updatePending(message);
  }

  /** Say which session this one was forked from. `title` is null when that session is gone, undefined when not known. */
  drawOrigin({ session_id: id }, title) {
    const link = (text) => h("a", { href: `#session=${id}` }, text);
    const words = { null: ["Forked from a session that was deleted."], undefined: ["Forked from ", link("another session"), "."] };
    this.#origin.replaceChildren(...(words[title] ?? ["Forked from ", link(`“${title}”`), "."]));
    this.#origin.hidden = false;
  }

  #viewOf(turn) {
    if (!this.#views.has(turn)) {
      const view = new TurnView(this.#actions);
      this.#views.set(turn, view);
      this.#node.insertBefore(view.node, this.#pending?.node ?? null);
    }
    return this.#views.get(turn);
  }

  #remove(turn) {
    this.#views.get(turn)?.node.remove();
    this.#views.delete(turn);
  }
}

function trimmedText({ messages, last_at: lastAt }) {
  const count = `${messages.toLocaleString("en")} message${messages === 1 ? "" : "s"}`;
  return `Earlier messages were removed under the retention policy: ${count}, the last of ${day(lastAt)}.`;
}

/** The words shown in place of a transcript that cannot be had. */
export function absent(problem) {
  const words = problem.status === 404 ? "This session does not exist, or it was deleted." : problem.message;
  return h("div", { class: "absent" }, h("p", {}, words), h("a", { href: "/", "data-new": true }, "Start a new session"));
}
