"""P4 for readers: from its cursor on, each connection got the journal's events, in order, each once, as they are."""

from collections.abc import Iterator
from typing import Any

from actors.core.clock import rfc3339
from actors.core.events import BODY, Event

from .client_log import Seen, digest
from .client_view import ClientView, Connection
from .evidence import Unrecognised
from .history import History
from .violations import Violation

_TRIMMED = "history.trimmed"


def check_readers(history: History, clients: ClientView) -> Iterator[Violation]:
    told = _Told(history)
    for connection in clients.connections_of(history.session_id):
        fault = _first_fault(told, connection)
        if fault is not None:
            rule, says = fault
            opened = connection.opened
            name = f"Reader {opened.reader} on connection {opened.connection}, from {opened.after} on,"
            yield Violation("P4", rule, history.session_id, f"{name} {says}.", opened.turn_id)


def wire(event: Event) -> dict[str, Any]:
    """What clients get of an event; as `Event.wire`, for bodies of newer versions too."""
    body = event.body
    if isinstance(body, Unrecognised):
        members = body.members
    else:
        members = BODY.dump_python(body, mode="json", exclude={"type"}, warnings=False)
    head = {"seq": event.seq, "session_id": event.session_id, "turn_id": event.turn_id}
    return {"type": body.type, **head, "created_at": rfc3339(event.created_at), **members}


class _Told:
    """The journal as readers must have got it; digests are made once for all of them."""

    def __init__(self, history: History) -> None:
        self._digests: dict[int, str] = {}
        self._events = {event.seq: event for event in history.events}
        self._turns = {turn.id: [event.seq for event in turn.events] for turn in history.turns.values()}
        self._ends = {turn.id: turn.ends[0].seq for turn in history.turns.values() if turn.ends}
        self.first = history.first_seq
        self.last = history.events[-1].seq if history.events else 0

    def expected(self, cursor: int, turn_id: str | None) -> int | None:
        """The number that a reader gets next; None where the journal no longer says."""
        if turn_id is None:
            return cursor + 1
        return next((seq for seq in self._turns.get(turn_id, ()) if seq > cursor), None)

    def end_of(self, turn_id: str) -> int | None:
        return self._ends.get(turn_id)

    def differs(self, seen: Seen) -> bool:
        """It is not what the journal holds. What was trimmed since cannot be compared."""
        event = self._events.get(seen.seq)
        trimmed_since = event is not None and event.body.type == _TRIMMED and seen.type != _TRIMMED
        if event is None or trimmed_since:
            return False
        if seen.seq not in self._digests:
            self._digests[seen.seq] = digest(wire(event))
        return (event.body.type, self._digests[seen.seq]) != (seen.type, seen.digest)


def _first_fault(told: _Told, connection: Connection) -> tuple[str, str] | None:
    """Whatever follows a fault is a consequence of it."""
    opened = connection.opened
    cursor = opened.after
    for seen in connection.seen:
        if (fault := _fault(told, seen, cursor, opened.turn_id)) is not None:
            return fault
        cursor = seen.seq
    closed = connection.closed
    if closed is not None and closed.ended and closed.error is None and opened.turn_id is not None:
        end = told.end_of(opened.turn_id)
        if end is not None and cursor < end:
            return "ended_early", f"was told that the turn is over after event {cursor}; it ends with event {end}"
    return None


def _fault(told: _Told, seen: Seen, cursor: int, turn_id: str | None) -> tuple[str, str] | None:
    if seen.seq <= cursor:
        return "seen_twice", f"got event {seen.seq} ({seen.type}) after it had {cursor}"
    if seen.seq > told.last:
        return "seen_unwritten", f"got event {seen.seq} ({seen.type}); the journal ends at {told.last}"
    expected = told.expected(cursor, turn_id)
    # A reader from the beginning gets what stands for the events that were trimmed.
    skips = cursor == 0 and seen.type == _TRIMMED
    if expected not in (None, seen.seq) and not skips:
        return "missed", f"got event {seen.seq} ({seen.type}) after {cursor}; it missed event {expected}"
    if told.differs(seen):
        return "other_data", f"got other data for event {seen.seq} ({seen.type}) than the journal holds"
    return None
