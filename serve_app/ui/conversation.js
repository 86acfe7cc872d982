/**
 * What a session's events amount to: its turns, which of them runs, which wait, and what is known of the session
 * itself. Plain data, no DOM. Previews grow an item; the numbered event that completes it has the last word.
 */

import { EFFECTS, Turn } from "./turn.js";

export class Conversation {
  turns = new Map();
  /** The session's total so far, as `usage.updated` tells it; null before the first. */
  spent = null;
  paused = false;
  /** The user whose session it is. */
  owner = null;
  /** The session that this one was forked from: {session_id, seq}, or null. */
  origin = null;
  /** What `history.trimmed` says of the events that are gone, or null. */
  trimmed = null;
  #connection = 0;

  /** The turn that was begun and has not ended, whether it runs or waits for a person. */
  get running() {
    return this.#open().find((turn) => turn.begun) ?? null;
  }

  /** The turn that goes on by itself or comes next, else null. */
  get active() {
    return this.running ?? (this.paused ? null : (this.#queued()[0] ?? null));
  }

  /** Turns that have to wait for another one, or for the session to be resumed, in the order in which they will run. */
  get waiting() {
    return this.#queued().filter((turn) => turn !== this.active);
  }

  get status() {
    if (this.paused) return "paused";
    if (!this.active) return "idle";
    return this.active.waitingFor === "approval" ? "waiting" : "running";
  }

  /** Whether a turn has its place in the transcript: it was begun, or is about to be. */
  shows(turn) {
    return turn.begun || turn === this.active;
  }

  /** A new connection: its previews may start over. */
  connected() {
    this.#connection += 1;
  }

  /** Returns the turns that changed. */
  apply(event) {
    switch (event.type) {
      case "session.created":
        this.#describe(event);
        break;
      case "history.trimmed":
        this.#describe(event.created);
        Object.assign(this, { trimmed: event, spent: event.spent, paused: event.paused });
        break;
      case "session.paused":
      case "session.resumed":
        this.paused = event.type === "session.paused";
        break;
      case "usage.updated":
        this.spent = event.session;
        break;
      case "message.steered":
        return this.#steer(event);
    }
    if (!event.turn_id || !(event.type in EFFECTS)) return [];
    const turn = this.#turn(event.turn_id);
    EFFECTS[event.type](turn, event);
    return [turn];
  }

  /** Returns the turn that changed, or null when the preview comes too late. */
  preview(preview) {
    const turn = this.turns.get(preview.turn_id);
    if (!turn || turn.ended) return null;
    if (preview.type === "tool.progress") {
      const tool = turn.tool(preview.tool_call_id);
      if (tool.content !== null) return null;
      tool.output.add(preview, this.#connection);
      return turn;
    }
    const message = turn.message(preview.message_id);
    if (message.content !== null) return null;
    const part = preview.type === "reasoning.delta" ? message.thought : message.answer;
    part.add(preview, this.#connection);
    return turn;
  }

  #describe({ user_id: owner, forked_from: origin }) {
    Object.assign(this, { owner, origin: origin ?? null });
  }

  /** A message that waited is taken into a turn that runs, and has none of its own any more. */
  #steer({ turn_id: from, message_id: messageId, into_turn_id: into }) {
    const [turn, target] = [this.#turn(from), this.#turn(into)];
    target.hear(messageId, turn.content);
    return [turn, target];
  }

  #open() {
    return [...this.turns.values()].filter((turn) => !turn.ended);
  }

  /** Messages that steer or interrupt go before those that only wait. */
  #queued() {
    const queued = this.#open().filter((turn) => !turn.begun);
    const waits = (turn) => Number(turn.onBusy === "enqueue");
    return queued.sort((one, other) => waits(one) - waits(other));
  }

  #turn(id) {
    if (!this.turns.has(id)) this.turns.set(id, new Turn(id));
    return this.turns.get(id);
  }
}
