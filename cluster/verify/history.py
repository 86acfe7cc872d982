"""A session's journal, read once and looked at by every check: its turns, their tool calls, where it begins."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.core.events import (
    TERMINAL,
    Event,
    HistoryTrimmed,
    MessageAccepted,
    SessionCreated,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnStarted,
)

from .evidence import SessionEvidence


@dataclass(slots=True)
class Call:
    """A tool call, and what happened to it."""

    id: str
    requested: list[Event] = field(default_factory=list[Event])
    started: list[Event] = field(default_factory=list[Event])
    outcomes: list[Event] = field(default_factory=list[Event])


@dataclass(slots=True)
class Turn:
    """Everything that the journal says of a turn, in its order. Nothing of it need be right."""

    id: str
    events: list[Event] = field(default_factory=list[Event])
    accepted: list[Event] = field(default_factory=list[Event])
    started: list[Event] = field(default_factory=list[Event])
    ends: list[Event] = field(default_factory=list[Event])
    calls: dict[str, Call] = field(default_factory=dict[str, Call])


class History:
    """`turns` are in the order in which the journal first names them."""

    def __init__(self, evidence: SessionEvidence) -> None:
        self.evidence = evidence
        self.session_id = evidence.session_id
        self.events: Sequence[Event] = evidence.events
        self.turns: dict[str, Turn] = {}
        for event in self.events:
            if event.turn_id is not None:
                turn = self.turns.setdefault(event.turn_id, Turn(event.turn_id))
                turn.events.append(event)
                _sort_in(turn, event)

    @property
    def trimmed(self) -> HistoryTrimmed | None:
        """What stands for the events that were deleted for their age, if some were."""
        first = self.events[0].body if self.events else None
        return first if isinstance(first, HistoryTrimmed) else None

    @property
    def first_seq(self) -> int:
        """The number at which the journal begins; what was there before cannot be checked any more."""
        return self.events[0].seq if self.trimmed is not None else 1

    @property
    def is_fork(self) -> bool:
        """It begins with what was said in another session."""
        first = self.events[0].body if self.events else None
        created = first.created if isinstance(first, HistoryTrimmed) else first
        return isinstance(created, SessionCreated) and created.forked_from is not None


def _sort_in(turn: Turn, event: Event) -> None:
    match event.body:
        case MessageAccepted():
            turn.accepted.append(event)
        case TurnStarted():
            turn.started.append(event)
        case ToolRequested() as body:
            _call(turn, body.call.id).requested.append(event)
        case ToolStarted() as body:
            _call(turn, body.tool_call_id).started.append(event)
        case ToolCompleted() | ToolOutcomeUnknown() as body:
            _call(turn, body.tool_call_id).outcomes.append(event)
        case body if isinstance(body, TERMINAL):
            turn.ends.append(event)
        case _:
            pass


def _call(turn: Turn, call_id: str) -> Call:
    return turn.calls.setdefault(call_id, Call(call_id))
