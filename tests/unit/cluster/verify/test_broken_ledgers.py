"""Money that does not add up."""

from dataclasses import replace

import pytest

from actors.core.events import Spent
from actors.core.messages import Usage


def test_an_attempt_that_was_left_open(good, tamper, find):
    assert ("ledger", "open_attempt") in find(tamper.attempt(good, 0, state="dispatched"))


def test_an_attempt_that_is_under_way_is_none_of_that(good, find):
    """Its turn was begun with event 3, and asks the model."""
    open_attempt = replace(good.attempts[0], state="dispatched", usage=Usage(), cost_micros=None, outcome=None)
    cut = replace(good, events=good.events[:3], session=None, turns=None, attempts=(open_attempt,))
    assert find(cut, settled=False) == set()


@pytest.mark.parametrize(
    "members", [{"cost_micros": 11}, {"cost_micros": None}, {"usage": Usage(1, 1)}, {"turn_id": "turn_2"}]
)
def test_an_attempt_that_is_not_what_was_told(good, tamper, find, members):
    found = find(tamper.attempt(good, 0, **members))
    assert ("ledger", "attempt_differs") in found
    assert {promise for promise, _ in found} == {"ledger"}


def test_an_attempt_without_its_event(good, tamper, find):
    gone = tamper.at(good, "usage.updated")
    found = find(tamper.without(good, gone))
    assert ("ledger", "unaccounted") in found
    assert {promise for promise, _ in found} == {"ledger"}


def test_an_event_without_its_attempt(good, find):
    assert find(replace(good, attempts=good.attempts[1:])) == {("ledger", "no_attempt"), ("ledger", "attempts_total")}


def test_an_attempt_that_was_accounted_twice(good, tamper, find):
    """The bill of somebody who was charged again when his turn was taken over."""
    assert ("ledger", "accounted_twice") in find(tamper.repeated(good, tamper.at(good, "usage.updated")))


def test_an_attempt_of_a_turn_that_nobody_knows(good, find):
    foreign = replace(good.attempts[0], id="att_x", turn_id="turn_x")
    assert ("ledger", "foreign_attempt") in find(replace(good, attempts=(*good.attempts, foreign)))


def test_a_total_that_the_events_do_not_sum_up_to(good, tamper, find):
    updated = tamper.at(good, "usage.updated", 1)
    assert find(tamper.changed(good, updated, session=Spent(Usage(1, 1), 1))) == {("ledger", "running_total")}


def test_a_turn_that_cost_something_else_than_its_calls(good, tamper, find):
    end = tamper.at(good, "turn.completed", turn_id="turn_1")
    assert find(tamper.changed(good, end, spent=Spent(Usage(10, 2), 99))) == {("ledger", "turn_total")}


@pytest.mark.parametrize("by", [Spent(cost_micros=1), Spent(Usage(1)), Spent(cost_known=False)])
def test_a_session_row_that_says_something_else(good, tamper, find, by):
    known = tamper.row(good, spent=good.session.spent + by)
    if known.session.spent == good.session.spent:  # of which something was unknown before
        known = tamper.row(good, spent=replace(good.session.spent, cost_known=True))
    assert find(known) == {("ledger", "session_total")}
