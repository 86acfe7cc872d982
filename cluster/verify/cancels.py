"""P8: a cancel that was answered ended its turn within the bound, once, and nothing of the turn comes after."""

from collections.abc import Iterator
from datetime import timedelta

from .client_view import Cancel, ClientView
from .history import History
from .violations import Violation

_ENDED = ("completed", "failed", "cancelled")

CLOCKS_APART_S = 1.0
"""Clocks of clients and hosts may differ by so much before an event counts as written after the answer."""


def check_cancels(history: History, clients: ClientView, *, within_s: float) -> Iterator[Violation]:
    for cancel in clients.cancels_of(history.session_id):
        answer = cancel.answered
        if answer is None or answer.status != 200:
            continue
        for rule, says in (*_faults_of_answer(cancel, within_s), *_faults_of_turn(history, cancel)):
            yield Violation("P8", rule, history.session_id, f"{says}.", cancel.sent.turn_id)


def _faults_of_answer(cancel: Cancel, within_s: float) -> Iterator[tuple[str, str]]:
    assert cancel.answered is not None
    assert cancel.answered_entry is not None
    took = cancel.answered_entry.at - cancel.sent_entry.at
    if took > within_s:
        yield (
            "slow_cancel",
            f"Cancel {cancel.sent.request} was answered after {took:.1f} s; the bound is {within_s:g} s",
        )
    if cancel.answered.turn_status is not None and cancel.answered.turn_status not in _ENDED:
        yield (
            "still_running",
            f"Cancel {cancel.sent.request} was answered although the turn was {cancel.answered.turn_status}",
        )


def _faults_of_turn(history: History, cancel: Cancel) -> Iterator[tuple[str, str]]:
    assert cancel.answered is not None
    assert cancel.answered_entry is not None
    turn = history.turns.get(cancel.sent.turn_id)
    if turn is None:
        if history.trimmed is None:
            yield "unknown_turn", f"Cancel {cancel.sent.request} was answered for a turn that the journal does not hold"
        return
    if len(turn.ends) != 1:
        yield "not_one_end", f"Cancel {cancel.sent.request} was answered; its turn has {len(turn.ends)} terminal events"
        return
    end, last = turn.ends[0], turn.events[-1]
    status = end.body.type.removeprefix("turn.")
    if cancel.answered.turn_status in _ENDED and cancel.answered.turn_status != status:
        told = cancel.answered.turn_status
        yield "other_status", f"Cancel {cancel.sent.request} was told {told!r}; event {end.seq} is {end.body.type}"
    if last is not end:
        says = f"Cancel {cancel.sent.request} was answered, yet event {last.seq} ({last.body.type}) follows the end"
        yield "after_cancel", f"{says}, event {end.seq}"
    late = max(event.created_at for event in turn.events) - cancel.answered_entry.wall
    if late > timedelta(seconds=CLOCKS_APART_S):
        yield (
            "after_answer",
            f"The turn has events of {late.total_seconds():.1f} s after cancel {cancel.sent.request} was answered",
        )
