/** A turn: the user's message, its items (messages, tool calls, what was said meanwhile) in order, and how it ended. */

import { Growing } from "./growing.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);

export class Turn {
  status = "queued"; // queued · running · completed · failed · cancelled
  waitingFor = null; // approval · paused: begun, and left off until a person says so
  messageId = null;
  content = "";
  onBusy = "enqueue";
  items = [];
  model = null;
  place = null; // number of the event that began it: turns are shown in this order
  end = null; // number of the event that ended it
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

  get begun() {
    return this.startedAt !== null;
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
    return this.#push({ ...item, content: null, error: null, durationMs: null, approval: null });
  }

  /** A person is asked about a tool call. One that was asked for already stays as it is. */
  ask({ id, toolCallId, name, input, expiresAt, onExpiry }) {
    const item = this.tool(toolCallId, name);
    item.input ||= input;
    if (item.approval?.id !== id) item.approval = { id, expiresAt, onExpiry, status: "pending", by: null, reason: null };
  }

  /** What became of an approval: approved, denied, expired or cancelled. */
  settle(id, outcome) {
    const item = this.items.find(({ approval }) => approval?.id === id);
    if (item) Object.assign(item.approval, outcome);
  }

  /** The user said something that the running turn took in. */
  hear(id, content) {
    if (!this.#item("said", id)) this.#push({ kind: "said", id, content });
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
export const EFFECTS = {
  "message.accepted": (turn, event) =>
    Object.assign(turn, { messageId: event.message_id, content: event.content, onBusy: event.on_busy ?? "enqueue" }),
  "message.edited": (turn, event) => Object.assign(turn, { content: event.content }),
  "turn.started"(turn, event) {
    turn.startedAt ??= event.created_at;
    turn.place ??= event.seq;
    Object.assign(turn, { status: "running", model: event.model });
  },
  "turn.waiting": (turn, event) => Object.assign(turn, { waitingFor: event.reason }),
  "turn.resumed": (turn) => Object.assign(turn, { waitingFor: null }),
  "turn.recovering"(turn, event) {
    Object.assign(turn, { recoveries: event.recoveries, waitingFor: null });
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
    const status = ["stopped", "denied"].includes(error) ? error : error ? "failed" : "done";
    Object.assign(turn.tool(event.tool_call_id, event.name), { status, content, error, durationMs, data });
  },
  "tool.outcome_unknown": (turn, event) =>
    Object.assign(turn.tool(event.tool_call_id, event.name), { status: "unknown" }),
  "approval.requested"(turn, event) {
    const { approval_id: id, tool_call_id: toolCallId, name, arguments: input } = event;
    turn.ask({ id, toolCallId, name, input, expiresAt: event.expires_at, onExpiry: event.on_expiry });
  },
  "approval.resolved"(turn, { approval_id: id, decision, by, reason }) {
    turn.settle(id, { status: decision === "approve" ? "approved" : "denied", by, reason });
  },
  "approval.expired"(turn, { approval_id: id, cancelled, decision }) {
    turn.settle(id, { status: cancelled ? "cancelled" : "expired", onExpiry: decision });
  },
  "usage.updated": (turn, event) => Object.assign(turn, { spent: sum(turn.spent, event.spent) }),
  "turn.completed": (turn, event) => end(turn, "completed", event),
  "turn.failed": (turn, event) => end(turn, "failed", event),
  "turn.cancelled": (turn, event) => end(turn, "cancelled", event),
};

function end(turn, status, event) {
  const { stop_reason: stopReason = null, error = null, stopped = [], spent, seq, created_at: finishedAt } = event;
  Object.assign(turn, { status, stopReason, error, stopped, spent, finishedAt, end: seq, stopping: false, waitingFor: null });
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
