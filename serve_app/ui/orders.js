/** What people tell a session besides sending messages. Each may be told again, and is, while no answer comes. */

import { newKey, persist, TRIES } from "./delivery.js";

/** What the server says when a workspace cannot be copied. */
const NO_FILES = ["invalid_input", "sandbox_unavailable"];

export class Orders {
  #api;
  #chat;
  #page;
  #conversation;
  #redraw;

  /** `conversation()` returns what is known of the session of `chat`; `redraw(turn)` shows what changed. */
  constructor(api, chat, page, conversation, redraw) {
    this.#api = api;
    this.#chat = chat;
    this.#page = page;
    this.#conversation = conversation;
    this.#redraw = redraw;
  }

  /** Cancel a turn. */
  async stop(turn) {
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

  /** Pause the session or resume it. */
  async control(order) {
    const lost = () => this.#page.complain(`No answer yet. Asking again to ${order} the session.`);
    try {
      await persist(() => this.#api.control(this.#chat.id, order), lost);
      this.#page.complain("");
    } catch (problem) {
      this.#page.complain(`The session could not be ${order}d. ${problem.message}`);
    }
  }

  /** Change a message that waits. Rejects when it was not changed. */
  async edit(turn, text) {
    try {
      await persist(() => this.#api.edit(this.#chat.id, turn.messageId, text));
    } catch (problem) {
      this.#page.complain(`Not changed. ${problem.message}`);
      throw problem;
    }
    this.#page.complain("");
    turn.content = text;
    this.#redraw(turn);
  }

  /** Take a message back that waits. */
  async withdraw(turn) {
    try {
      await persist(() => this.#api.withdraw(this.#chat.id, turn.messageId));
    } catch (problem) {
      this.#page.complain(`Not withdrawn. ${problem.message}`);
    }
  }

  /** Open a session that begins with everything up to the end of a turn, files included. */
  async fork(turn) {
    try {
      const whole = await this.#copy({ from_event: turn.end, include: ["workspace"] });
      const session = whole ?? (await this.#copy({ from_event: turn.end }));
      this.#page.forked(this.#chat, session, whole ? "" : "The files of the session could not be copied; its messages were.");
    } catch (problem) {
      this.#page.complain(`Not forked. ${problem.message}`);
    }
  }

  /** The new session; null when only its files are in the way. */
  #copy(body) {
    const key = newKey();
    const attempt = () =>
      this.#api.fork(this.#chat.id, body, key).catch((problem) => {
        if (body.include && NO_FILES.includes(problem.code)) return null;
        throw problem;
      });
    return persist(attempt);
  }

  /**
   * Decide on a tool call. `onLost(words)` is told when there is no answer yet. Rejects when it was not decided; when
   * somebody else was faster, what they decided is shown instead.
   */
  async decide(approval, decision, reason, onLost) {
    const again = (_, next) => onLost(`No answer yet. Trying again (${next} of ${TRIES}).`);
    const body = { decision, ...(reason && { reason }) };
    const row = await persist(() => this.#api.decide(approval.id, body), again).catch((problem) => {
      if (problem.code !== "approval_not_pending") throw problem;
      return this.#api.approval(approval.id);
    });
    this.#settle(row);
  }

  /** Ask what people are asked, where a turn waits for that: what its events do not tell any more is shown all the same. */
  async recall() {
    if (this.#conversation().running?.waitingFor !== "approval") return;
    const page = await this.#api.pendingApprovals(this.#chat.id).catch(() => ({ data: [] }));
    for (const row of page.data) {
      const turn = this.#conversation().turns.get(row.turn_id);
      const { id, tool_call_id: toolCallId, name, arguments: input } = row;
      turn?.ask({ id, toolCallId, name, input, expiresAt: row.expires_at, onExpiry: row.on_expiry });
      this.#redraw(turn);
    }
  }

  #settle(row) {
    const turn = this.#conversation().turns.get(row.turn_id);
    if (row.status === "pending" || !turn) return;
    turn.settle(row.id, { status: row.status, by: row.by, reason: row.reason });
    this.#redraw(turn);
  }
}
