"""A call that comes too late brings no session into memory, whatever the clocks of the two machines show."""

import pytest

from actors.core.errors import NotHere, SessionLost
from actors.leave import SLACK_S, Leaves, check_leave
from actors.testing import FakeClock


def test_a_call_in_time_may_and_one_without_leave_may_not():
    clock = FakeClock()
    until = Leaves(clock).until("a", 5.0)
    clock.advance(5.0)
    assert check_leave(until, clock, "sess_1")
    assert not check_leave(None, clock, "sess_1")


def test_a_call_that_a_host_finds_when_it_goes_on_after_it_stood_still_is_refused():
    """Its caller has given up and was sent elsewhere, where the turn runs by now."""
    clock = FakeClock()
    until = Leaves(clock).until("a", 5.0)
    clock.advance(5.0 + SLACK_S + 0.1)
    with pytest.raises(NotHere):
        check_leave(until, clock, "sess_1")


@pytest.mark.parametrize("ahead_s", [10.0, 86_400.0])
def test_a_host_whose_clock_is_ahead_is_counted_with_in_its_own_time(ahead_s):
    ours, theirs = FakeClock(), FakeClock()
    theirs.advance(ahead_s)
    leaves = Leaves(ours)
    with pytest.raises(NotHere) as refused:
        check_leave(leaves.until("a", 5.0), theirs, "sess_1")
    leaves.learn("a", refused.value)
    until = leaves.until("a", 5.0)
    theirs.advance(5.0)
    assert check_leave(until, theirs, "sess_1")
    theirs.advance(SLACK_S + 0.1)
    with pytest.raises(NotHere):
        check_leave(until, theirs, "sess_1")
    assert leaves.until("b", 5.0) == Leaves(ours).until("b", 5.0)


def test_from_other_refusals_nothing_is_learnt_of_a_clock():
    clock = FakeClock()
    leaves = Leaves(clock)
    before = leaves.until("a", 5.0)
    for error in (NotHere(session_id="sess_1"), SessionLost(), TimeoutError()):
        leaves.learn("a", error)
    assert leaves.until("a", 5.0) == before
