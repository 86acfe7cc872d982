/** The list of sessions: newest first, by pages, with the open one marked. */

import { h, icon, setText } from "./dom.js";
import { ago, usdBriefly } from "./format.js";

export const UNTITLED = "New session";
const STATES = { waiting: "waits for you", paused: "paused" };

export class Sidebar {
  #list;
  #more;
  #onDelete;
  #rows = new Map();
  #lastId = null;
  #openId = null;

  /** `list` and `more` are the list's node and the "load more" button; `onDelete(session)` asks and deletes. */
  constructor(list, more, onDelete) {
    this.#list = list;
    this.#more = more;
    this.#onDelete = onDelete;
    setInterval(() => this.#rows.forEach((row) => row.showTime()), 60_000);
  }

  /** The cursor of the next page. */
  get lastId() {
    return this.#lastId;
  }

  /** Start over with a first page, and leave the nodes alone when it names the same sessions. */
  reset(page) {
    if ([...this.#rows.keys()].join() !== page.data.map(({ id }) => id).join()) {
      this.#list.replaceChildren();
      this.#rows.clear();
    }
    this.add(page);
  }

  /** Append the next page. */
  add(page) {
    for (const session of page.data) this.#put(session, "append");
    this.#lastId = page.last_id;
    this.#more.hidden = !page.has_more;
    this.#countRows();
  }

  /** Show a session as it is now. One that is not listed is new, or on a page that was not loaded yet. */
  update(session, { isNew = false } = {}) {
    if (isNew || this.#rows.has(session.id)) this.#put(session, "prepend");
    this.#countRows();
  }

  remove(id) {
    this.#rows.get(id)?.node.remove();
    this.#rows.delete(id);
    this.#countRows();
  }

  /** Mark the session that is open; null marks none. */
  mark(id) {
    this.#openId = id;
    for (const [rowId, row] of this.#rows) row.mark(rowId === id);
    this.#rows.get(id)?.node.scrollIntoView({ block: "nearest" });
  }

  /** The id of the session so many rows away from the open one, or null at the ends. */
  neighbour(step) {
    const ids = [...this.#list.children].map((node) => node.dataset.id);
    const at = ids.indexOf(this.#openId);
    return ids[at === -1 ? 0 : at + step] ?? null;
  }

  #put(session, place) {
    if (!this.#rows.has(session.id)) {
      const row = new Row(session.id, this.#onDelete);
      this.#rows.set(session.id, row);
      this.#list[place](row.node);
    }
    const row = this.#rows.get(session.id);
    row.update(session);
    row.mark(session.id === this.#openId);
  }

  #countRows() {
    this.#list.dataset.empty = String(this.#rows.size === 0);
  }
}

/** One session. Its nodes stay the same for as long as it is listed, so that the focus stays where it is. */
class Row {
  #session = null;
  #title = h("span", { class: "title" });
  #time = h("time");
  #cost = h("span");
  #running = h("span", { class: "pulse", role: "img", "aria-label": "running" });
  #state = h("span", { class: "state" });
  #forked = h("span", { class: "forked", role: "img", "aria-label": "forked", title: "Forked from another session" }, icon("fork"));
  #link;
  #remove;

  constructor(id, onDelete) {
    const meta = h("span", { class: "meta" }, this.#forked, this.#time, "·", this.#cost, this.#running, this.#state);
    this.#link = h("a", { href: `#session=${id}` }, this.#title, meta);
    const onclick = () => onDelete(this.#session);
    this.#remove = h("button", { type: "button", class: "quiet", title: "Delete", onclick }, icon("trash"));
    this.node = h("li", { "data-id": id }, this.#link, this.#remove);
  }

  update(session) {
    this.#session = session;
    const title = session.title || UNTITLED;
    setText(this.#title, title);
    setText(this.#cost, usdBriefly(session.cost.micros, session.cost.known));
    this.#remove.setAttribute("aria-label", `Delete ${title}`);
    this.#running.hidden = session.status !== "running";
    this.#state.dataset.state = session.status;
    setText(this.#state, STATES[session.status] ?? "");
    this.#forked.hidden = !session.forked_from;
    this.#time.dateTime = session.updated_at;
    this.#time.title = new Date(session.updated_at).toLocaleString();
    this.showTime();
  }

  showTime() {
    setText(this.#time, ago(this.#session.updated_at));
  }

  mark(isOpen) {
    if (isOpen) this.#link.setAttribute("aria-current", "page");
    else this.#link.removeAttribute("aria-current");
  }
}
