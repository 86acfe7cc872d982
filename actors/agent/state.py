"""What a session *is*: a fold over its events, and nothing else.

`SessionState.apply` is the only way in which it changes, live and at activation alike, so what is
replayed from the journal is what was there before. No I/O, no clock, no ids.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..core.events import (
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    Decision,
    Event,
    HistoryTrimmed,
    MessageAccepted,
    MessageCompleted,
    MessageEdited,
    MessageSteered,
    ModelReplaced,
    Origin,
    SessionCreated,
    SessionPaused,
    SessionResumed,
    Spent,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnRecovering,
    TurnResumed,
    TurnStarted,
    TurnWaiting,
    UsageUpdated,
)
from ..core.messages import AssistantMessage, Message, ToolMessage, UserMessage
from ..ledger.payer import Payer
from .turn_state import ApprovalState, ToolState, TurnState

OUTCOME_UNKNOWN = (
    "The process that ran this tool died while the tool was running. It may have finished, in part or not at all. "
    "It was not run again. Check its effects before you repeat it."
)

REMEMBERED_MESSAGES = 256
"""How many of the newest messages are known by id, so that one that is sent again is not run again."""

REMEMBERED_DECISIONS = 64
"""Of how many approvals the end is known, so that a decision that is sent again is recognised."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message's turn, the number of its `message.accepted`, and what the request looked like."""

    turn_id: str
    seq: int
    fingerprint: str | None
    withdrawn: bool = False
    """Its turn was cancelled before it began."""


@dataclass(slots=True)
class SessionState:
    session_id: str
    created: SessionCreated | None = None
    title: str | None = None
    paused: bool = False
    last_seq: int = 0
    transcript: list[Message] = field(default_factory=list[Message])
    turns: "OrderedDict[str, TurnState]" = field(default_factory=OrderedDict[str, TurnState])
    """Turns that have not ended, in the order in which they will run."""
    accepted: "OrderedDict[str, Accepted]" = field(default_factory=OrderedDict[str, "Accepted"])
    """What became of the newest messages, by message id."""
    decided: dict[str, Decision | None] = field(default_factory=dict[str, "Decision | None"])
    """How the newest approvals ended; None where the turn ended before."""
    spent: Spent = field(default_factory=Spent)

    @property
    def user_id(self) -> str:
        """Empty until the first event."""
        return self.created.user_id if self.created else ""

    @property
    def system(self) -> str | None:
        return self.created.system if self.created else None

    @property
    def metadata(self) -> dict[str, Any]:
        return self.created.metadata if self.created else {}

    @property
    def approvals(self) -> tuple[str, ...]:
        """Names of the tools that a person must approve in this session."""
        return self.created.approvals if self.created else ()

    @property
    def forked_from(self) -> Origin | None:
        return self.created.forked_from if self.created else None

    @property
    def head(self) -> TurnState | None:
        """The turn that runs, waits for a person, or comes next."""
        return next(iter(self.turns.values()), None)

    @property
    def running(self) -> TurnState | None:
        """The turn that was begun and has not ended."""
        return self.head if self.head is not None and self.head.running else None

    @property
    def status(self) -> Literal["idle", "running", "waiting", "paused"]:
        """`waiting` and `paused` sessions do nothing until a person says so, `running` ones go on by themselves."""
        if self.paused:
            return "paused"
        if self.head is None:
            return "idle"
        return "waiting" if self.head.blocked else "running"

    def turn_of(self, message_id: str) -> TurnState | None:
        """The turn of a message, while it has not ended."""
        return next((turn for turn in self.turns.values() if turn.message_id == message_id), None)

    def apply(self, event: Event) -> None:
        """Take one event in. Events come in the order of their numbers, without gaps."""
        if isinstance(event.body, HistoryTrimmed) and self.last_seq == 0:
            self._begin_trimmed(event, event.body)
            return
        if event.seq != self.last_seq + 1:
            raise ValueError(f"event {event.seq} after {self.last_seq} in {self.session_id}")
        self.last_seq = event.seq
        match event.body:
            case SessionCreated() as body:
                self.created = body
            case SessionPaused() | SessionResumed() as body:
                self.paused = isinstance(body, SessionPaused)
            case MessageAccepted() as body:
                self._accept(event, body)
            case _:
                if event.turn_id is not None:
                    self._apply_to_turn(self.turns[event.turn_id], event)

    def _begin_trimmed(self, event: Event, body: HistoryTrimmed) -> None:
        self.last_seq, self.created = event.seq, body.created
        self.title, self.spent, self.paused = body.title, body.spent, body.paused

    def _accept(self, event: Event, body: MessageAccepted) -> None:
        assert event.turn_id is not None
        assert self.created is not None
        model = body.model or self.created.model
        payer = Payer(body.key_id, body.org_id)
        turn = TurnState(event.turn_id, body.message_id, body.content, model, body.on_busy, payer=payer)
        if body.on_busy == "enqueue":
            self.turns[turn.id] = turn
        else:
            self._put_ahead(turn)
        self.accepted[body.message_id] = Accepted(event.turn_id, event.seq, body.fingerprint)
        # Whatever their number, none is forgotten whose turn has not ended: it would be run a second time.
        while len(self.accepted) > REMEMBERED_MESSAGES and self._oldest_accepted().turn_id not in self.turns:
            self.accepted.popitem(last=False)
        if self.title is None:
            self.title = title_of(body.content)

    def _oldest_accepted(self) -> Accepted:
        return next(iter(self.accepted.values()))

    def _put_ahead(self, turn: TurnState) -> None:
        """Behind the turn that runs and behind others that were put ahead, before all that wait their turn."""
        others = list(self.turns.values())
        place = next((i for i, o in enumerate(others) if not o.running and o.on_busy == "enqueue"), len(others))
        others.insert(place, turn)
        self.turns = OrderedDict((one.id, one) for one in others)

    def _apply_to_turn(self, turn: TurnState, event: Event) -> None:
        match event.body:
            case TurnStarted():
                turn.running = True
                # A queued message joins the transcript only now: it may not stand amid another turn's answer.
                self.transcript.append(UserMessage(turn.content))
            case TurnRecovering() as body:
                turn.recoveries = body.recoveries
            case TurnWaiting() | TurnResumed() as body:
                turn.waiting = body.reason if isinstance(body, TurnWaiting) else None
            case MessageEdited() as body:
                turn.content = body.content
            case MessageSteered():
                self.transcript.append(UserMessage(turn.content))
            case MessageCompleted() as body:
                turn.steps += 1
                turn.answer, turn.finish_reason = body.content, body.finish_reason
                turn.recoveries = 0
                self._say(body, turn.model)
            case UsageUpdated() as body:
                turn.spent += body.spent
                self.spent = body.session
            case ModelReplaced() as body:
                turn.replaced_by = body.model
            case TurnCompleted() | TurnFailed() | TurnCancelled() as body:
                self._end(turn, body)
            case _:
                self._apply_to_tool(turn, event)

    def _end(self, turn: TurnState, body: TurnCompleted | TurnFailed | TurnCancelled) -> None:
        turn.outcome = body
        del self.turns[turn.id]
        accepted = self.accepted.get(turn.message_id)
        if accepted is not None and isinstance(body, TurnCancelled) and not turn.running:
            self.accepted[turn.message_id] = replace(accepted, withdrawn=True)

    def _apply_to_tool(self, turn: TurnState, event: Event) -> None:
        match event.body:
            case ToolRequested() as body:
                turn.tools[body.call.id] = ToolState(body.call)
            case ApprovalRequested() as body:
                turn.tools[body.tool_call_id].approval = ApprovalState(
                    body.approval_id, body.expires_at, body.on_expiry
                )
            case ApprovalResolved() as body:
                self._decide(turn.tools[body.tool_call_id], body.decision, body.reason)
                self._remember(body.approval_id, body.decision)
            case ApprovalExpired() as body:
                self._decide(turn.tools[body.tool_call_id], body.decision, "nobody decided in time")
                self._remember(body.approval_id, None if body.cancelled else body.decision)
            case ToolStarted() as body:
                turn.tools[body.tool_call_id].started_at = event.created_at
            case ToolCompleted() as body:
                turn.tools[body.tool_call_id].result = body
                turn.recoveries = 0
                self.transcript.append(ToolMessage(body.tool_call_id, body.content))
            case ToolOutcomeUnknown() as body:
                turn.tools[body.tool_call_id].result = ToolCompleted(
                    body.tool_call_id, body.name, OUTCOME_UNKNOWN, error="outcome_unknown"
                )
                self.transcript.append(ToolMessage(body.tool_call_id, OUTCOME_UNKNOWN))
            case _:
                pass

    def _decide(self, tool: ToolState, decision: Decision, reason: str | None) -> None:
        assert tool.approval is not None
        tool.approval = replace(tool.approval, decision=decision, reason=reason)

    def _remember(self, approval_id: str, decision: Decision | None) -> None:
        self.decided[approval_id] = decision
        while len(self.decided) > REMEMBERED_DECISIONS:
            del self.decided[next(iter(self.decided))]

    def _say(self, body: MessageCompleted, model: str) -> None:
        # A blank answer is no message: providers refuse a transcript that holds one.
        content = body.content if body.content.strip() else ""
        if content or body.tool_calls:
            self.transcript.append(AssistantMessage(content, body.tool_calls, body.reasoning_details, model))


def title_of(content: str, *, length: int = 80) -> str:
    """The first line of a message, cut at a word."""
    line = " ".join(content.split())
    if len(line) <= length:
        return line
    return line[: length - 1].rsplit(" ", 1)[0] + "…"
