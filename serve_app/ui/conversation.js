/**
 * What a session's events amount to: turns, each with its user message and its items (messages and tool calls) in
 * order. Plain data, no DOM. Previews grow an item; the numbered event that completes it has the last word.
 */

/** Text that grows by previews. Offsets count characters (code points), where JavaScript counts UTF-16 units. */
class Growing {
  text = "";
  #length = 0;
  #connection = 0;

  /** Text at offset 0 replaces what is shown on a new connection, or when it is not its beginning. */
  add({ offset, text }, connection) {
    const characters = Array.from(text);
    const resumed = connection !== this.#connection;
    this.#connection = connection;
    if (offset === 0 && (resumed || !this.text.startsWith(text))) {
      this.text = text;
      this.#length = characters.length;
    } else if (offset > this.#length) {
      this.text += `…${text}`; // what came between was missed; the completed message will have it
      this.#length = offset + characters.length;
    } else {
      const news = characters.slice(this.#length - offset);
      this.text += news.join("");
      this.#length += news.length;
    }
  }
}

const ENDED = new Set(["completed", "failed", "cancelled"]);

export class Turn {
  status = "queued"; // queued · running · completed · failed · cancelled
  content = "";
  items = [];
  model = null;
  startedAt = null;
  finishedAt = null;
  spent = null;
  stopReason = null;
  error = null;
  stopped = [];
  recoveries = 0;
  stopping = false;

  constructor(id) {
    this.id = id;
  }

  get ended() {
    return ENDED.has(this.status);
  }

  message(id) {
    const known = this.#item("message", id);
    return known ?? this.#push({ kind: "message", id, content: null, answer: new Growing(), thought: new Growing() });
  }

  tool(id, name = "tool") {
    return this.#item("tool", id) ?? this.request({ id, name, arguments: "" });
  }

  /** A new item for a tool call, also when an earlier step of the turn used the same id. */
  request({ id, name, arguments: input }) {
    const known = this.#item("tool", id);
    if (known?.status === "requested") return Object.assign(known, { name, input });
    const item = { kind: "tool", id, name, input, output: new Growing(), status: "requested", data: {} };
    return this.#push({ ...item, content: null, error: null, durationMs: null });
  }

  /** Forget previews of answers that will not be completed: the model call they came from is over. */
  dropUnfinished() {
    this.items = this.items.filter((item) => item.kind !== "message" || item.content !== null);
  }

  #item(kind, id) {
    return this.items.findLast((item) => item.kind === kind && item.id === id);
  }

  #push(item) {
    this.items.push(item);
    return item;
  }
}

/** What each event does to its turn. Types that are not here change nothing that is shown. */
const EFFECTS = {
  "message.accepted": (turn, event) => Object.assign(turn, { content: event.content }),
  "turn.started": (turn, event) =>
    Object.assign(turn, { status: "running", model: event.model, startedAt: turn.startedAt ?? event.created_at }),
  "turn.recovering"(turn, event) {
    turn.recoveries = event.recoveries;
    turn.dropUnfinished();
  },
  "message.completed"(turn, event) {
    const message = turn.message(event.message_id);
    Object.assign(message, { content: event.content, finish: event.finish_reason, reasoning: event.reasoning });
    turn.model = event.model;
    turn.dropUnfinished();
    for (const call of event.tool_calls) turn.request(call);
  },
  "tool.requested": (turn, event) => turn.request(event.call),
  "tool.started": (turn, event) => Object.assign(turn.tool(event.tool_call_id, event.name), { status: "running" }),
  "tool.completed"(turn, event) {
    const { content, error, duration_ms: durationMs, data } = event;
    const status = error === "stopped" ? "stopped" : error ? "failed" : "done";
    Object.assign(turn.tool(event.tool_call_id, event.name), { status, content, error, durationMs, data });
  },
  "tool.outcome_unknown": (turn, event) =>
    Object.assign(turn.tool(event.tool_call_id, event.name), { status: "unknown" }),
  "usage.updated": (turn, event) => Object.assign(turn, { spent: sum(turn.spent, event.spent) }),
  "turn.completed": (turn, event) => end(turn, "completed", event),
  "turn.failed": (turn, event) => end(turn, "failed", event),
  "turn.cancelled": (turn, event) => end(turn, "cancelled", event),
};

function end(turn, status, event) {
  const { stop_reason: stopReason = null, error = null, stopped = [], spent } = event;
  Object.assign(turn, { status, stopReason, error, stopped, spent, finishedAt: event.created_at, stopping: false });
  for (const item of turn.items) {
    if (item.kind === "tool" && (item.status === "requested" || item.status === "running")) item.status = "stopped";
  }
}

function sum(before, more) {
  if (!before) return more;
  const usage = Object.fromEntries(Object.entries(more.usage).map(([name, n]) => [name, n + (before.usage[name] ?? 0)]));
  return {
    usage,
    cost_micros: before.cost_micros + more.cost_micros,
    cost_known: before.cost_known && more.cost_known,
  };
}

export class Conversation {
  turns = new Map();
  /** The session's total so far, as `usage.updated` tells it; null before the first. */
  spent = null;
  #connection = 0;

  /** The turn that runs, else the first that waits. */
  get active() {
    const open = [...this.turns.values()].filter((turn) => !turn.ended);
    return open.find((turn) => turn.status === "running") ?? open[0] ?? null;
  }

  /** A new connection: its previews may start over. */
  connected() {
    this.#connection += 1;
  }

  /** Returns the turn that changed, or null. */
  apply(event) {
    if (event.type === "usage.updated") this.spent = event.session;
    if (!event.turn_id || !(event.type in EFFECTS)) return null;
    const turn = this.#turn(event.turn_id);
    EFFECTS[event.type](turn, event);
    return turn;
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

  #turn(id) {
    if (!this.turns.has(id)) this.turns.set(id, new Turn(id));
    return this.turns.get(id);
  }
}
