"""P2 and P4 in the journal itself: numbers without gaps and doubles, from the first event to the row's last."""

from collections.abc import Iterator

from actors.core.events import HistoryTrimmed, SessionCreated

from .evidence import Unrecognised
from .history import History
from .violations import Violation


def check_numbers(history: History) -> Iterator[Violation]:
    session_id, events = history.session_id, history.events
    before = history.first_seq - 1
    for event in events:
        if event.seq > before + 1:
            missing = f"{before + 1}" if event.seq == before + 2 else f"{before + 1} to {event.seq - 1}"
            yield Violation("P4", "gap", session_id, f"Event {missing} is missing before {event.seq}.", event.turn_id)
        elif event.seq <= before:
            says = f"Number {event.seq} ({event.body.type}) stands after number {before}: two writers numbered events."
            yield Violation("P2", "double_number", session_id, says, event.turn_id)
        before = max(before, event.seq)
        if isinstance(event.body, Unrecognised) and event.body.damage is not None:
            says = f"Event {event.seq} ({event.body.type}) cannot be read: {event.body.damage}."
            yield Violation("P4", "unreadable", session_id, says, event.turn_id)
    yield from _check_ends(history, before)


def _check_ends(history: History, last: int) -> Iterator[Violation]:
    first = history.events[0] if history.events else None
    if first is not None and not isinstance(first.body, SessionCreated | HistoryTrimmed | Unrecognised):
        says = f"The journal begins with event {first.seq}, a {first.body.type}, and not with session.created."
        yield Violation("P4", "beginning", history.session_id, says)
    row = history.evidence.session
    if row is None:
        return
    if row.last_seq != last:
        says = f"The session's row says that its last event is {row.last_seq}; the journal ends at {last}."
        yield Violation("P2", "last_seq", history.session_id, says)
    if row.epoch < 1:
        yield Violation("P2", "epoch", history.session_id, f"The session's epoch is {row.epoch}; the first one is 1.")
    if first is not None and row.oldest_seq != first.seq:
        says = f"The session's row says that its oldest event is {row.oldest_seq}; the journal begins at {first.seq}."
        yield Violation("P4", "oldest_seq", history.session_id, says)
