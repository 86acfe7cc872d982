/** The open session: follows its events, draws its turns, sends and stops. One at a time is on the page. */

import { Conversation } from "./conversation.js";
import { h } from "./dom.js";
import { follow } from "./stream.js";
import { TurnView } from "./turn_view.js";

export class Chat {
  #api;
  #page;
  #conversation = new Conversation();
  #views = new Map();
  #pending = [];
  #sending = Promise.resolve();
  #changed = new Set();
  #frame = 0;
  #following = new AbortController();
  #caughtUp = false;

  /**
   * `id` is null for a session that the first message will create. `page` has the node `transcript` and the calls
   * changed(chat), created(chat), ended(chat), announce(text), connection(attempts), gone(problem), retry(text) and
   * complain(text).
   */
  constructor(api, id, page) {
    this.#api = api;
    this.#page = page;
    this.id = id;
    page.transcript.replaceChildren();
    if (id) this.#follow();
  }

  /** The turn that runs or waits first, else null. */
  get active() {
    return this.#conversation.active;
  }

  /** The session's total so far, or null while no model call was accounted. */
  get spent() {
    return this.#conversation.spent;
  }

  get empty() {
    return this.id === null && this.#pending.length === 0;
  }

  close() {
    this.#following.abort();
    cancelAnimationFrame(this.#frame);
  }

  /** Hand a message in. Rejects with the Problem, and takes the message off the page, when it was not accepted. */
  async send({ text, model }) {
    const pending = { text, turnId: null, view: new TurnView({}) };
    pending.view.updatePending(text);
    this.#pending.push(pending);
    this.#page.transcript.append(pending.view.node);
    this.#page.changed(this);
    // One after the other: messages keep their order, and only the first one creates the session.
    const submitted = this.#sending.then(() => this.#submit(pending, model));
    this.#sending = submitted.catch(() => {});
    await submitted;
  }

  /** Cancel a turn, by default the active one. */
  async stop(turnId = this.active?.id) {
    const turn = this.#conversation.turns.get(turnId);
    if (!turn || turn.stopping) return;
    turn.stopping = true;
    this.#redraw(turn);
    try {
      await this.#api.cancel(turn.id);
    } catch (problem) {
      turn.stopping = false;
      this.#redraw(turn);
      this.#page.complain(`The turn could not be stopped. ${problem.message}`);
    }
  }

  async #submit(pending, model) {
    const message = pending.text;
    try {
      const body = this.id ? { message, session_id: this.id } : { message, ...(model && { model }) };
      const accepted = await this.#api.submit(body);
      pending.turnId = accepted.turn_id;
      if (this.#conversation.turns.has(accepted.turn_id)) this.#settle(pending);
      if (this.id === null) this.#adopt(accepted.session_id);
    } catch (problem) {
      if (!this.#pending.includes(pending)) return; // only the answer was lost: the event stream has the message
      this.#settle(pending);
      throw problem;
    }
  }

  #adopt(sessionId) {
    this.id = sessionId;
    this.#page.created(this);
    if (!this.#following.signal.aborted) this.#follow();
  }

  #follow() {
    const reader = {
      event: (event) => this.#event(event),
      preview: (preview) => this.#redraw(this.#conversation.preview(preview)),
      live: () => {
        this.#caughtUp = true;
        this.#conversation.connected();
        this.#page.connection(0);
        this.#page.changed(this);
      },
      lost: (attempts) => this.#page.connection(attempts),
      busy: () => this.active !== null || this.#pending.length > 0,
    };
    follow(this.#api, this.id, reader, this.#following.signal).catch((problem) => this.#page.gone(problem));
  }

  #event(event) {
    const turn = this.#conversation.apply(event);
    if (event.type === "message.accepted") {
      const same = this.#pending.find(({ turnId, text }) => turnId === event.turn_id || (!turnId && text === event.content));
      if (same) this.#settle(same, turn);
    }
    this.#redraw(turn);
    if (turn?.ended && this.#caughtUp) this.#page.ended(this);
    const words = this.#caughtUp ? spoken(event) : "";
    if (words) this.#page.announce(words);
  }

  /** A pending message has become that turn, or was refused. */
  #settle(pending, turn = null) {
    if (!this.#pending.includes(pending)) return;
    this.#pending.splice(this.#pending.indexOf(pending), 1);
    if (turn) pending.view.node.replaceWith(this.#viewOf(turn).node);
    else pending.view.node.remove();
    this.#page.changed(this);
  }

  #viewOf(turn) {
    if (!this.#views.has(turn.id)) {
      const actions = {
        retry: (text) => this.#page.retry(text),
        cancel: (turnId) => this.stop(turnId),
      };
      const view = new TurnView(actions);
      this.#views.set(turn.id, view);
      const next = this.#pending[0]?.view.node ?? null;
      this.#page.transcript.insertBefore(view.node, next?.parentNode ? next : null);
    }
    return this.#views.get(turn.id);
  }

  /** Draw before the next frame, however many events come until then. */
  #redraw(turn) {
    if (!turn || this.#following.signal.aborted) return;
    this.#changed.add(turn);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      // A turn that ends may let the next one start, so every open turn is drawn too.
      for (const other of this.#conversation.turns.values()) if (!other.ended) this.#changed.add(other);
      const { active } = this;
      for (const one of this.#changed) this.#viewOf(one).update(one, !one.ended && one !== active);
      this.#changed.clear();
      this.#page.changed(this);
    });
  }
}

/** What a screen reader is told of an event. */
function spoken(event) {
  switch (event.type) {
    case "message.completed":
      return event.content;
    case "tool.started":
      return `Running ${event.name}`;
    case "turn.failed":
      return `The turn failed. ${event.error.message}`;
    case "turn.cancelled":
      return "The turn was stopped.";
    default:
      return "";
  }
}

/** The words shown in place of a transcript that cannot be had. */
export function absent(problem) {
  const words = problem.status === 404 ? "This session does not exist, or it was deleted." : problem.message;
  return h("div", { class: "absent" }, h("p", {}, words), h("a", { href: "/", "data-new": true }, "Start a new session"));
}
