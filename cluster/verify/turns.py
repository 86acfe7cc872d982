"""P3 and P1 within the journal: each message accepted once, each turn ended once, and the rows say the same."""

from collections.abc import Iterator

from actors.core.events import MessageAccepted, SessionPaused, SessionResumed, TurnResumed, TurnWaiting

from .evidence import TurnFacts
from .history import History, Turn
from .violations import Violation

_ENDED = ("completed", "failed", "cancelled")


def check_turns(history: History, *, settled: bool) -> Iterator[Violation]:
    yield from _check_accepted(history)
    for turn in history.turns.values():
        if len(turn.ends) > 1:
            ends = ", ".join(f"{end.body.type} as event {end.seq}" for end in turn.ends)
            yield Violation("P3", "ended_twice", history.session_id, f"Turn {turn.id} ended twice: {ends}.", turn.id)
    if settled:
        yield from _check_at_rest(history)
    if history.evidence.turns is not None:
        yield from _check_rows(history, {row.id: row for row in history.evidence.turns})


def _check_accepted(history: History) -> Iterator[Violation]:
    first: dict[str, int] = {}
    for event in history.events:
        if not isinstance(event.body, MessageAccepted):
            continue
        message_id = event.body.message_id
        if message_id in first:
            says = f"Message {message_id} was accepted twice, as events {first[message_id]} and {event.seq}."
            yield Violation("P1", "accepted_twice", history.session_id, says, event.turn_id)
        elif event.turn_id is not None and len(history.turns[event.turn_id].accepted) > 1:
            says = f"Turn {event.turn_id} has {len(history.turns[event.turn_id].accepted)} messages that were accepted."
            if event is history.turns[event.turn_id].accepted[0]:
                yield Violation("P1", "two_messages", history.session_id, says, event.turn_id)
        first.setdefault(message_id, event.seq)


def _check_at_rest(history: History) -> Iterator[Violation]:
    unended = [turn for turn in history.turns.values() if turn.accepted and not turn.ends]
    if _waits_for_people(history, unended):
        return
    for turn in unended:
        last = turn.events[-1]
        says = f"Turn {turn.id} has no terminal event; its last one is {last.body.type}, event {last.seq}."
        yield Violation("P3", "unended", history.session_id, says, turn.id)
    row = history.evidence.session
    if row is not None and not unended and row.status not in ("idle", "paused"):
        says = f"The session's row says {row.status!r} although all of its {len(history.turns)} turns have ended."
        yield Violation("P3", "session_status", history.session_id, says)


def _waits_for_people(history: History, unended: list[Turn]) -> bool:
    """Paused, or a person is asked: then turns stay open for as long as people like."""
    trimmed = history.trimmed
    paused = trimmed is not None and trimmed.paused
    for event in history.events:
        if isinstance(event.body, SessionPaused | SessionResumed):
            paused = isinstance(event.body, SessionPaused)
    return paused or any(_is_parked(turn) for turn in unended)


def _is_parked(turn: Turn) -> bool:
    said = [event.body for event in turn.events if isinstance(event.body, TurnWaiting | TurnResumed)]
    return bool(said) and isinstance(said[-1], TurnWaiting)


def _check_rows(history: History, rows: dict[str, TurnFacts]) -> Iterator[Violation]:
    for turn in history.turns.values():
        row = rows.get(turn.id)
        if row is None:
            if turn.accepted:
                says = f"Turn {turn.id} was accepted as event {turn.accepted[0].seq} and has no row."
                yield Violation("P3", "turn_row", history.session_id, says, turn.id)
        elif (wrong := _disagreement(turn, row)) is not None:
            yield Violation("P3", "turn_row", history.session_id, f"The row of turn {turn.id} {wrong}.", turn.id)
    for row in rows.values():
        if row.id in history.turns:
            continue
        if history.trimmed is None:
            says = f"Turn {row.id} has a row ({row.status}) and none of the journal's {len(history.events)} events."
            yield Violation("P1", "turn_without_events", history.session_id, says, row.id)
        elif row.finished_at is None:
            says = f"Turn {row.id} has not ended by its row ({row.status}), and its events were trimmed."
            yield Violation("P3", "trimmed_unended", history.session_id, says, row.id)


def _disagreement(turn: Turn, row: TurnFacts) -> str | None:
    if turn.ends:
        end = turn.ends[0]
        status = end.body.type.removeprefix("turn.")
        if row.status != status:
            return f"says {row.status!r}; the journal ends it with {end.body.type}, event {end.seq}"
        if row.finished_at != end.created_at:
            return f"says that it ended at {row.finished_at}; event {end.seq} says {end.created_at}"
        return None
    if row.status in _ENDED or row.finished_at is not None:
        return f"says {row.status!r}, ended at {row.finished_at}; the journal has no terminal event of it"
    if (row.status == "queued") != (not turn.started):
        return f"says {row.status!r}; the journal has {len(turn.started)} turn.started of it"
    return None
