"""P2 and P3: the journal replayed against a mailbox of its own, which says what may happen next.

It knows nothing of how sessions are implemented: a message goes to the end of the line, or behind the
others that were put ahead of it; the first in the line starts when nothing runs; only what runs takes steps.
"""

from collections.abc import Iterator

from actors.core.events import (
    TERMINAL,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    BudgetReached,
    Event,
    MessageAccepted,
    MessageCompleted,
    MessageSteered,
    ModelReplaced,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnRecovering,
    TurnResumed,
    TurnStarted,
    TurnWaiting,
    UsageUpdated,
)

from .evidence import Unrecognised
from .history import History
from .violations import Promise, Violation

STEPS = (
    MessageCompleted,
    UsageUpdated,
    BudgetReached,
    ModelReplaced,
    ToolRequested,
    ToolStarted,
    ToolCompleted,
    ToolOutcomeUnknown,
    TurnRecovering,
    TurnWaiting,
    TurnResumed,
    ApprovalRequested,
    ApprovalResolved,
    ApprovalExpired,
)
"""What only a turn that runs does."""


def check_order(history: History) -> Iterator[Violation]:
    mailbox = _Mailbox(history.session_id)
    for event in history.events:
        if event.turn_id is not None:
            yield from mailbox.take(event, event.turn_id)


class _Mailbox:
    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._waiting: list[str] = []
        self._ahead: set[str] = set()
        self._running: str | None = None
        self._ended: dict[str, Event] = {}
        self._known: set[str] = set()

    def take(self, event: Event, turn_id: str) -> Iterator[Violation]:
        body = event.body
        if isinstance(body, MessageAccepted):
            self._accept(turn_id, put_ahead=body.on_busy != "enqueue")
            return
        if turn_id not in self._known:
            self._known.add(turn_id)
            yield self._found("P3", "unknown_turn", event, "was never accepted in this journal")
        if turn_id in self._ended:
            yield from self._after_the_end(event, self._ended[turn_id])
        elif isinstance(body, TurnStarted):
            yield from self._start(event, turn_id)
        elif isinstance(body, TERMINAL):
            self._end(event, turn_id)
        elif isinstance(body, STEPS) and turn_id != self._running:
            yield self._found("P2", "step_of_idle_turn", event, f"does not run; {self._running or 'no turn'} does")
        elif isinstance(body, MessageSteered) and body.into_turn_id != self._running:
            says = f"was taken into {body.into_turn_id}, which does not run; {self._running or 'no turn'} does"
            yield self._found("P3", "steered_into_idle_turn", event, says)

    def _accept(self, turn_id: str, *, put_ahead: bool) -> None:
        if turn_id in self._known:
            return  # a message that stands twice is another check's
        self._known.add(turn_id)
        place = len(self._waiting)
        if put_ahead:
            self._ahead.add(turn_id)
            place = next((at for at, one in enumerate(self._waiting) if one not in self._ahead), place)
        self._waiting.insert(place, turn_id)

    def _start(self, event: Event, turn_id: str) -> Iterator[Violation]:
        if self._running is not None:
            other = "it ran already" if self._running == turn_id else f"{self._running} ran"
            yield self._found("P2", "started_while_running", event, f"started while {other}")
        elif self._waiting and self._waiting[0] != turn_id and turn_id in self._waiting:
            yield self._found("P3", "start_order", event, f"started before {self._waiting[0]}, which was first in line")
        self._running = turn_id
        self._forget(turn_id)

    def _end(self, event: Event, turn_id: str) -> None:
        self._ended[turn_id] = event
        if self._running == turn_id:
            self._running = None
        self._forget(turn_id)

    def _forget(self, turn_id: str) -> None:
        if turn_id in self._waiting:
            self._waiting.remove(turn_id)

    def _after_the_end(self, event: Event, end: Event) -> Iterator[Violation]:
        # A second end is counted with the ends; what a newer version writes there may be meant so.
        if not isinstance(event.body, (*TERMINAL, Unrecognised)):
            says = f"has a {event.body.type} as event {event.seq}, after its {end.body.type}, event {end.seq}"
            yield Violation(
                "P2", "event_after_end", self._session_id, f"Turn {event.turn_id} {says}.", turn_id=event.turn_id
            )

    def _found(self, promise: Promise, rule: str, event: Event, says: str) -> Violation:
        sentence = f"Turn {event.turn_id} {says} (event {event.seq}, {event.body.type})."
        return Violation(promise, rule, self._session_id, sentence, event.turn_id)
