"""The spine: one tagged union of everything that can happen in a session.

SSE frames, the journal, the chat page, replay and test assertions all read these. An event is numbered
1, 2, 3, … within its session once it is in the journal. *Previews* (deltas and tool progress) are not
events: they carry no number, are never stored, and say where they belong by offset, so that a reader
of numbered events alone has the whole truth.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from .clock import rfc3339
from .messages import ToolCall, Usage

StopReason: TypeAlias = Literal[
    "end_turn", "max_steps", "max_tokens", "max_cost", "timeout", "refusal", "cancelled", "error", "steered"
]
OnBusy: TypeAlias = Literal["enqueue", "interrupt", "steer"]
Decision: TypeAlias = Literal["approve", "deny"]
CostSource: TypeAlias = Literal["upstream", "price_list", "fallback", "free", "unknown"]
PaidKind: TypeAlias = Literal["model", "tool", "sandbox", "embedding"]
"""What an attempt is: a call of a model or of a tool, time in a sandbox, texts that were embedded."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a turn or an attempt has used. `cost_micros` counts what is known; see `cost_known`."""

    usage: Usage = field(default_factory=Usage)
    cost_micros: int = 0
    cost_known: bool = True

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.usage + other.usage,
            self.cost_micros + other.cost_micros,
            self.cost_known and other.cost_known,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as data: the same members as a problem document."""

    code: str
    message: str
    retryable: bool = False
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of a refusal for money: which budget, how full, until when, and what to do."""


# Sessions and what people say -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a forked session comes from: the events of `session_id` up to number `seq`."""

    session_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class SessionCreated:
    """`approvals` names the tools that a person must approve in this session."""

    user_id: str
    model: str
    system: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    approvals: tuple[str, ...] = ()
    forked_from: Origin | None = None
    type: Literal["session.created"] = "session.created"


@dataclass(frozen=True, slots=True)
class SessionPaused:
    """No step begins from here on; the one that runs ends."""

    type: Literal["session.paused"] = "session.paused"


@dataclass(frozen=True, slots=True)
class SessionResumed:
    type: Literal["session.resumed"] = "session.resumed"


@dataclass(frozen=True, slots=True)
class HistoryTrimmed:
    """Stands in the place of the events up to its own number, which were deleted for their age.

    It holds what a session needs to go on, and the sums of what is gone.
    """

    created: SessionCreated
    title: str | None
    messages: int
    turns: int
    first_at: datetime
    last_at: datetime
    spent: Spent
    paused: bool = False
    type: Literal["history.trimmed"] = "history.trimmed"


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """A user's message is in the journal: from here on it is never lost.

    `on_busy` says what it does to a turn that runs; `fingerprint` is of the request's body, for repeats of it.
    `key_id` and `org_id` are charged with its turn, beside the user.
    """

    message_id: str
    content: str
    model: str | None = None
    on_busy: OnBusy = "enqueue"
    fingerprint: str | None = None
    key_id: str | None = None
    org_id: str | None = None
    type: Literal["message.accepted"] = "message.accepted"


@dataclass(frozen=True, slots=True)
class MessageEdited:
    """A message that waited was changed before its turn began."""

    message_id: str
    content: str
    type: Literal["message.edited"] = "message.edited"


@dataclass(frozen=True, slots=True)
class MessageSteered:
    """A message that waited was taken into the turn that runs; its own turn ends with it."""

    message_id: str
    into_turn_id: str
    type: Literal["message.steered"] = "message.steered"


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    """A model's answer, whole. `finish_reason` other than `stop` and `tool_calls` means it was cut short."""

    message_id: str
    content: str
    model: str
    finish_reason: str
    tool_calls: tuple[ToolCall, ...] = ()
    provider: str | None = None
    reasoning: str | None = None
    reasoning_details: tuple[dict[str, Any], ...] = ()
    type: Literal["message.completed"] = "message.completed"


# Turns ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurnQueued:
    message_id: str
    position: int
    type: Literal["turn.queued"] = "turn.queued"


@dataclass(frozen=True, slots=True)
class TurnStarted:
    message_id: str
    model: str
    type: Literal["turn.started"] = "turn.started"


@dataclass(frozen=True, slots=True)
class TurnRecovering:
    """The process that ran the turn is gone; another one goes on with it."""

    recoveries: int
    type: Literal["turn.recovering"] = "turn.recovering"


@dataclass(frozen=True, slots=True)
class TurnWaiting:
    """The turn has left the processor until a person decides, or the session is resumed."""

    reason: Literal["approval", "paused"]
    type: Literal["turn.waiting"] = "turn.waiting"


@dataclass(frozen=True, slots=True)
class TurnResumed:
    type: Literal["turn.resumed"] = "turn.resumed"


@dataclass(frozen=True, slots=True)
class TurnCompleted:
    stop_reason: StopReason
    steps: int
    spent: Spent
    type: Literal["turn.completed"] = "turn.completed"


@dataclass(frozen=True, slots=True)
class TurnFailed:
    error: Failure
    steps: int
    spent: Spent
    type: Literal["turn.failed"] = "turn.failed"


@dataclass(frozen=True, slots=True)
class TurnCancelled:
    """`stopped` names what was running: `model`, or the tools."""

    stopped: tuple[str, ...]
    steps: int
    spent: Spent
    type: Literal["turn.cancelled"] = "turn.cancelled"


# Tools ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolRequested:
    call: ToolCall
    type: Literal["tool.requested"] = "tool.requested"


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """Written before the tool runs: without an outcome after it, the outcome is unknown."""

    tool_call_id: str
    name: str
    type: Literal["tool.started"] = "tool.started"


@dataclass(frozen=True, slots=True)
class ToolCompleted:
    """`content` is what the model reads. `error` is a short kind when the tool failed, else null."""

    tool_call_id: str
    name: str
    content: str
    error: str | None = None
    duration_ms: int = 0
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    type: Literal["tool.completed"] = "tool.completed"


@dataclass(frozen=True, slots=True)
class ToolOutcomeUnknown:
    """The tool was running when its process died. It is not run again."""

    tool_call_id: str
    name: str
    type: Literal["tool.outcome_unknown"] = "tool.outcome_unknown"


# Approvals ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """A tool call waits for a person; without a decision, `on_expiry` is the decision at `expires_at`."""

    approval_id: str
    tool_call_id: str
    name: str
    arguments: str
    expires_at: datetime
    on_expiry: Decision
    type: Literal["approval.requested"] = "approval.requested"


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    """`by` is the user who decided."""

    approval_id: str
    tool_call_id: str
    decision: Decision
    reason: str | None
    by: str
    type: Literal["approval.resolved"] = "approval.resolved"


@dataclass(frozen=True, slots=True)
class ApprovalExpired:
    """Nobody decided in time; `decision` is what the policy says then. `cancelled` when its turn ended before."""

    approval_id: str
    tool_call_id: str
    decision: Decision
    cancelled: bool = False
    type: Literal["approval.expired"] = "approval.expired"


# Cost -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UsageUpdated:
    """One attempt was accounted. `session` is the total of the session so far.

    Of a tool or a sandbox only where it cost something, or nobody knows what; `model` is empty then.
    """

    attempt_id: str
    model: str
    spent: Spent
    session: Spent
    cost_source: CostSource = "unknown"
    kind: PaidKind = "model"
    name: str | None = None
    type: Literal["usage.updated"] = "usage.updated"


@dataclass(frozen=True, slots=True)
class BudgetReached:
    """What an attempt of this session cost took its user past a threshold. Told once for a user and a window.

    `critical` refuses what is expensive until `resets_at`; `emergency` all that costs, until an operator lifts it.
    """

    alert_id: str
    severity: Literal["warning", "critical", "emergency"]
    window: str
    threshold_micros: int
    spent_micros: int
    limit_micros: int | None = None
    resets_at: datetime | None = None
    type: Literal["budget.reached"] = "budget.reached"


@dataclass(frozen=True, slots=True)
class ModelReplaced:
    """The turn's model is expensive, and the user's budget paused: from here on `model` is asked in its place."""

    asked: str
    model: str
    type: Literal["model.replaced"] = "model.replaced"


Body: TypeAlias = Annotated[
    SessionCreated
    | SessionPaused
    | SessionResumed
    | HistoryTrimmed
    | MessageAccepted
    | MessageEdited
    | MessageSteered
    | MessageCompleted
    | TurnQueued
    | TurnStarted
    | TurnRecovering
    | TurnWaiting
    | TurnResumed
    | TurnCompleted
    | TurnFailed
    | TurnCancelled
    | ToolRequested
    | ToolStarted
    | ToolCompleted
    | ToolOutcomeUnknown
    | ApprovalRequested
    | ApprovalResolved
    | ApprovalExpired
    | UsageUpdated
    | BudgetReached
    | ModelReplaced,
    Field(discriminator="type"),
]

TERMINAL = (TurnCompleted, TurnFailed, TurnCancelled)
"""A turn ends with exactly one of these."""

BODY: TypeAdapter[Body] = TypeAdapter(Body)
"""Bodies to JSON and back; unknown members are ignored, so that an older process reads a newer journal."""


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered entry of a session's journal. Source of truth for everything a client sees."""

    seq: int
    session_id: str
    turn_id: str | None
    created_at: datetime
    body: Body

    def wire(self) -> dict[str, Any]:
        """The flat JSON object that clients get: the body's members beside the envelope's."""
        return {
            "type": self.body.type,
            "seq": self.seq,
            "session_id": self.session_id,
            "turn_id": self.turn_id,
            "created_at": rfc3339(self.created_at),
            **BODY.dump_python(self.body, mode="json", exclude={"type"}),
        }


# Previews -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MessageDelta:
    """Text of the answer that is being written, from character `offset` of that message on."""

    turn_id: str
    message_id: str
    offset: int
    text: str
    type: Literal["message.delta"] = "message.delta"


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Reasoning that the model shows, from character `offset` on."""

    turn_id: str
    message_id: str
    offset: int
    text: str
    type: Literal["reasoning.delta"] = "reasoning.delta"


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Output of a running tool, from character `offset` on."""

    turn_id: str
    tool_call_id: str
    offset: int
    text: str
    type: Literal["tool.progress"] = "tool.progress"


Preview: TypeAlias = Annotated[MessageDelta | ReasoningDelta | ToolProgress, Field(discriminator="type")]

PREVIEW: TypeAdapter[Preview] = TypeAdapter(Preview)
