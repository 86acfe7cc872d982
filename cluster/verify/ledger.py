"""The ledger: attempts, the `usage.updated` of the journal, and the session's totals are the same money."""

from collections.abc import Iterator
from dataclasses import dataclass

from actors.core.events import TERMINAL, Event, Spent, UsageUpdated
from actors.ledger.book import Attempt

from .history import History, Turn
from .violations import Violation

_OPEN = "dispatched"
"""State of an attempt that was opened and not closed."""


def check_ledger(history: History) -> Iterator[Violation]:
    trimmed = history.trimmed
    total = trimmed.spent if trimmed is not None else Spent()
    accounted: dict[str, _Entry] = {}
    for event in history.events:
        if not isinstance(event.body, UsageUpdated):
            continue
        body = event.body
        if (before := accounted.get(body.attempt_id)) is not None:
            says = f"Attempt {body.attempt_id} was accounted twice, as events {before.seq} and {event.seq}."
            yield _found(history, "accounted_twice", says, event.turn_id)
        accounted.setdefault(body.attempt_id, _Entry(event.seq, event.turn_id, body.spent))
        total += body.spent
        if body.session != total:
            says = f"Event {event.seq} puts the session at {_told(body.session)}; its events sum up to {_told(total)}."
            yield _found(history, "running_total", says, event.turn_id)
            total = body.session  # once is enough: what follows counts on from it
    yield from _check_turn_totals(history)
    row = history.evidence.session
    if row is not None and row.spent != total:
        says = f"The session's row says {_told(row.spent)}; its events sum up to {_told(total)}."
        yield _found(history, "session_total", says)
    if history.evidence.attempts is not None:
        yield from _check_attempts(history, history.evidence.attempts, accounted)
        ended = sum((one.told for one in history.evidence.attempts if one.state != _OPEN), Spent())
        if ended != total:
            says = f"The attempts of the session sum up to {_told(ended)}; its events to {_told(total)}."
            yield _found(history, "attempts_total", says)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the journal says of an attempt."""

    seq: int
    turn_id: str | None
    spent: Spent


def _check_turn_totals(history: History) -> Iterator[Violation]:
    for turn in history.turns.values():
        if not (turn.accepted and turn.ends):
            continue
        end = turn.ends[0].body
        used = _used(turn.events)
        if isinstance(end, TERMINAL) and end.spent != used:
            says = f"Turn {turn.id} used {_told(end.spent)} by its {end.type}; its calls sum up to {_told(used)}."
            yield _found(history, "turn_total", says, turn.id)


def _used(events: list[Event]) -> Spent:
    return sum((event.body.spent for event in events if isinstance(event.body, UsageUpdated)), Spent())


def _check_attempts(
    history: History, attempts: tuple[Attempt, ...], accounted: dict[str, _Entry]
) -> Iterator[Violation]:
    rows = {attempt.id: attempt for attempt in attempts}
    for attempt in attempts:
        turn = history.turns.get(attempt.turn_id)
        if attempt.state == _OPEN:
            yield from _check_open(history, attempt, turn)
        elif attempt.is_told and attempt.id not in accounted and turn is not None and turn.accepted:
            says = f"Attempt {attempt.id} ended ({attempt.outcome}, {_told(attempt.told)}); no usage.updated names it."
            yield _found(history, "unaccounted", says, attempt.turn_id)
        elif turn is None and history.trimmed is None:
            says = (
                f"Attempt {attempt.id} is of turn {attempt.turn_id}, which none of {len(history.events)} events names."
            )
            yield _found(history, "foreign_attempt", says, attempt.turn_id)
    for attempt_id, entry in accounted.items():
        row = rows.get(attempt_id)
        if row is None:
            says = f"Event {entry.seq} accounts attempt {attempt_id}, which has no row."
            yield _found(history, "no_attempt", says, entry.turn_id)
        elif row.turn_id != entry.turn_id or row.told != entry.spent:
            says = (
                f"Attempt {attempt_id} is {_told(row.told)} of {row.turn_id} in the ledger; "
                f"event {entry.seq} says {_told(entry.spent)} of {entry.turn_id}."
            )
            yield _found(history, "attempt_differs", says, entry.turn_id)


def _check_open(history: History, attempt: Attempt, turn: Turn | None) -> Iterator[Violation]:
    if turn is not None and turn.ends:
        end = turn.ends[0]
        says = f"Attempt {attempt.id} is still open although its turn ended with event {end.seq} ({end.body.type})."
        yield _found(history, "open_attempt", says, attempt.turn_id)


def _told(spent: Spent) -> str:
    known = "" if spent.cost_known else " or more"
    return (
        f"{spent.usage.prompt_tokens}+{spent.usage.completion_tokens} tokens for {spent.cost_micros} micro-USD{known}"
    )


def _found(history: History, rule: str, says: str, turn_id: str | None = None) -> Violation:
    return Violation("ledger", rule, history.session_id, says, turn_id)
