/** Messages on their way to the server, one after the other: they keep their order, and only the first makes a session. */

import { isLost, newKey, persist, TRIES } from "./delivery.js";

/** One message. It keeps its key and its body, so that the server knows it however often it is sent. */
class Outgoing {
  key = newKey();
  body = null;
  trying = 1;
  offline = false;
  failed = false; // given up until the user says so
  turnId = null; // as the answer tells it
  seen = false; // the session's events have it

  constructor({ text, model, approvals, onBusy }) {
    Object.assign(this, { text, model, approvals, onBusy });
  }

  /** What is shown of its way. */
  get state() {
    if (this.failed) return "Not sent: the server does not answer.";
    if (this.trying === 1) return "Sending";
    if (this.offline) return "You are offline. It is sent when the network is back.";
    return `No answer yet. Sending it again (${this.trying} of ${TRIES}); it cannot arrive twice.`;
  }
}

export class Outbox {
  #post;
  #on;
  #messages = [];
  #working = false;

  /**
   * `post(message)` sends one and returns the answer. `on` has the calls changed(), accepted(message, answer),
   * refused(message, problem), after which the message is not here any more, and gaveUp(message, problem).
   */
  constructor(post, on) {
    this.#post = post;
    this.#on = on;
  }

  /** Messages to show, in order: those that no event has brought yet. */
  get messages() {
    return this.#messages.filter((message) => !message.seen);
  }

  /** Whether one of them has not arrived, as far as is known. */
  get unsent() {
    return this.messages.some((message) => !message.turnId);
  }

  send(message) {
    this.#messages.push(new Outgoing(message));
    this.#on.changed();
    this.#work();
  }

  /** Try once more with a message that was given up. */
  again(message) {
    Object.assign(message, { failed: false, trying: 1 });
    this.#on.changed();
    this.#work();
  }

  /** Forget a message that was given up. */
  drop(message) {
    this.#remove(message);
    this.#on.changed();
    this.#work();
  }

  /**
   * The session accepted this message. With `live`, what it says is enough to know it: the event has come before
   * the answer, which may be lost.
   */
  recognise({ turn_id: turnId, content }, live) {
    const head = this.#unanswered;
    const same =
      this.#messages.find((message) => message.turnId === turnId) ??
      (live && head && !head.seen && head.text === content ? head : null);
    if (!same) return;
    same.seen = true;
    if (same.turnId || same.failed) this.drop(same);
  }

  get #unanswered() {
    return this.#messages.find((message) => !message.turnId);
  }

  async #work() {
    if (this.#working) return;
    this.#working = true;
    for (let head = this.#unanswered; head && !head.failed; head = this.#unanswered) await this.#deliver(head);
    this.#working = false;
  }

  async #deliver(message) {
    const onLost = (_, next) => {
      Object.assign(message, { trying: next, offline: !navigator.onLine });
      this.#on.changed();
    };
    try {
      const answer = await persist(() => this.#post(message), onLost);
      message.turnId = answer.turn_id;
      if (message.seen) this.#remove(message);
      this.#on.accepted(message, answer);
    } catch (problem) {
      this.#lose(message, problem);
    }
    this.#on.changed();
  }

  #lose(message, problem) {
    const gone = message.seen || !isLost(problem);
    if (gone) this.#remove(message);
    else message.failed = true;
    if (message.seen) return; // only the answer was lost
    if (gone) this.#on.refused(message, problem);
    else this.#on.gaveUp(message, problem);
  }

  #remove(message) {
    this.#messages = this.#messages.filter((one) => one !== message);
  }
}
