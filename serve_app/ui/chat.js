/** The open session: follows its events, draws them, sends messages. One at a time is on the page. */

import { spoken } from "./announcements.js";
import { Conversation } from "./conversation.js";
import { Orders } from "./orders.js";
import { Outbox } from "./outbox.js";
import { Queue } from "./queue.js";
import { follow } from "./stream.js";
import { Transcript } from "./transcript.js";

export class Chat {
  #api;
  #page;
  #conversation = new Conversation();
  #outbox;
  #transcript;
  #queue;
  #orders;
  #changed = new Set();
  #frame = 0;
  #following = new AbortController();
  #caughtUp = false;

  /**
   * `id` is null for a session that the first message will create. `page` has the nodes `transcript` and `queue` and
   * the calls changed(chat), created(chat), ended(chat), forked(chat, session, note), origin(chat, session id),
   * announce(text), connection(attempts), gone(problem), retry(text), giveBack(text, reason), focus() and
   * complain(text).
   */
  constructor(api, id, page) {
    this.#api = api;
    this.#page = page;
    this.id = id;
    this.#outbox = new Outbox((message) => this.#post(message), {
      changed: () => this.#redraw(),
      accepted: (_, answer) => this.#accepted(answer),
      refused: ({ text }, { status, message }) => page.giveBack(text, status === 401 ? "" : `Not sent. ${message}`),
      gaveUp: (message, problem) => this.#following.signal.aborted && this.#takeBack(message, problem),
    });
    const orders = (this.#orders = new Orders(api, this, page, () => this.#conversation, (turn) => this.#redraw(turn)));
    const way = { again: (message) => this.#outbox.again(message), takeBack: (message) => this.#takeBack(message) };
    this.#transcript = new Transcript(page.transcript, {
      ...way,
      retry: page.retry,
      fork: (turn) => orders.fork(turn),
      decide: (...decision) => orders.decide(...decision),
      nameOf: (user) => (user === this.#conversation.owner ? "you" : user),
    });
    this.#queue = new Queue(page.queue, {
      ...way,
      edit: (turn, text) => orders.edit(turn, text),
      withdraw: (turn) => orders.withdraw(turn),
      salvage: (text) => page.giveBack(text, "That message is being answered already; what you typed is here."),
      focus: page.focus,
    });
    if (id) this.#follow();
  }

  /** The turn that goes on by itself, waits for a person, or comes next; else null. */
  get active() {
    return this.#conversation.active;
  }

  /** Whether a turn was begun that a message could steer or interrupt. */
  get running() {
    return this.#conversation.running !== null;
  }

  /** idle · running · waiting · paused; null while the history is being read. */
  get status() {
    return this.#caughtUp ? this.#conversation.status : null;
  }

  /** The session's total so far, or null while no model call was accounted. */
  get spent() {
    return this.#conversation.spent;
  }

  get empty() {
    return this.id === null && this.#outbox.messages.length === 0;
  }

  /** Whether a message has not reached the server yet, as far as is known. */
  get unsent() {
    return this.#outbox.unsent;
  }

  close() {
    this.#following.abort();
    cancelAnimationFrame(this.#frame);
    this.#queue.clear();
  }

  /** Hand a message in: {text, model, approvals, onBusy}. The first one of a session chooses its model and approvals. */
  send(message) {
    this.#outbox.send(message);
  }

  /** Cancel the active turn. */
  stop() {
    return this.#orders.stop(this.active);
  }

  /** Pause the session, or go on with it. */
  async togglePause() {
    await this.#orders.control(this.#conversation.paused ? "resume" : "pause");
  }

  /** Say which session this one was forked from. */
  showOrigin(title) {
    this.#transcript.drawOrigin(this.#conversation.origin, title);
  }

  #post(message) {
    // Made once: under one key the server takes one body.
    message.body ??= this.#bodyOf(message);
    return this.#api.submit(message.body, message.key);
  }

  #bodyOf({ text, model, approvals, onBusy }) {
    if (!this.id) return { message: text, ...(model && { model }), ...(approvals.length && { approvals }) };
    return { message: text, session_id: this.id, ...(onBusy !== "enqueue" && { on_busy: onBusy }) };
  }

  #accepted({ session_id: sessionId }) {
    if (this.id !== null) return;
    this.id = sessionId;
    this.#caughtUp = true; // nothing happened in it before it was here
    this.#page.created(this);
    if (!this.#following.signal.aborted) this.#follow();
  }

  #takeBack(message, problem = null) {
    this.#outbox.drop(message);
    this.#page.giveBack(message.text, problem ? `It is not certain that this was sent. ${problem.message}` : "");
  }

  #follow() {
    const reader = {
      event: (event) => this.#event(event),
      preview: (preview) => this.#redraw(this.#conversation.preview(preview)),
      live: () => {
        this.#caughtUp = true;
        this.#conversation.connected();
        this.#page.connection(0);
        this.#orders.recall();
        this.#redraw();
      },
      lost: (attempts) => this.#page.connection(attempts),
      busy: () => this.active !== null || this.#conversation.waiting.length > 0 || this.#outbox.messages.length > 0,
    };
    follow(this.#api, this.id, reader, this.#following.signal).catch((problem) => this.#page.gone(problem));
  }

  #event(event) {
    if (event.type === "history.trimmed") this.#startOver();
    const live = this.#caughtUp;
    const turns = this.#conversation.apply(event);
    if (event.type === "message.accepted") this.#outbox.recognise(event, live);
    this.#redraw(...turns);
    const { origin } = this.#conversation;
    if (origin && ["session.created", "history.trimmed"].includes(event.type)) this.#page.origin(this, origin.session_id);
    if (!live) return;
    if (turns.some((turn) => turn.ended)) this.#page.ended(this);
    const words = spoken(event, turns[0]);
    if (words) this.#page.announce(words);
  }

  /** What was read so far is not there any more; what is left comes anew. */
  #startOver() {
    this.#conversation = new Conversation();
    this.#changed.clear();
    this.#caughtUp = false;
    this.#transcript.clear();
    this.#queue.clear();
  }

  /** Draw before the next frame, however many events come until then. */
  #redraw(...turns) {
    if (this.#following.signal.aborted) return;
    for (const turn of turns) if (turn) this.#changed.add(turn);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const conversation = this.#conversation;
    // A turn that ends may let the next one start, so every open turn is drawn too.
    for (const turn of conversation.turns.values()) if (!turn.ended) this.#changed.add(turn);
    this.#transcript.draw(conversation, this.#changed);
    this.#changed.clear();
    const messages = this.#outbox.messages;
    const next = !conversation.active && !conversation.paused ? messages[0] : null;
    this.#transcript.drawPending(next);
    this.#queue.draw(conversation.waiting, messages.filter((message) => message !== next), conversation.paused);
    this.#page.changed(this);
  }
}
