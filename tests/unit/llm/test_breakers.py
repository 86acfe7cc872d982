"""Breakers: when they open, for how long, and that one call at a time tries what was open."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.llm.breakers import Breaker, BreakerOpen, BreakerPolicy, Breakers, State

POLICY = BreakerPolicy(window_s=60, failure_rate=0.5, min_calls=4, open_s=5, growth=2, open_max_s=30)


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(POLICY)


ENDS = {"x": True, "o": False, "-": None}


def run(breaker, now, ends):
    """One call after the other: `x` failed, `o` did not, `-` says nothing."""
    for end in ends:
        breaker.leave(breaker.enter(now), now, failed=ENDS[end])


def test_it_opens_at_the_rate_and_not_before_enough_calls(breaker):
    run(breaker, 1, "xxx")
    assert breaker.state(1) is State.CLOSED
    run(breaker, 1, "x")
    assert (breaker.state(1), breaker.wait_s(2)) == (State.OPEN, 4)


def test_it_stays_closed_below_the_rate(breaker):
    for now in range(100):
        run(breaker, now * 0.1, "oxo")
    assert breaker.state(10) is State.CLOSED


def test_failures_that_are_old_do_not_count(breaker):
    run(breaker, 0, "xxx")
    run(breaker, 60, "x")
    assert breaker.state(60) is State.CLOSED


def test_what_says_nothing_does_not_count(breaker):
    run(breaker, 0, "-" * 100)
    run(breaker, 0, "xxx")
    assert breaker.state(0) is State.CLOSED


def test_one_call_tries_it(breaker):
    run(breaker, 0, "xxxx")
    assert breaker.wait_s(5) == 0
    probe = breaker.enter(5)
    assert breaker.wait_s(5) > 0
    breaker.leave(probe, 6, failed=False)
    assert (breaker.state(6), breaker.wait_s(6)) == (State.CLOSED, 0)
    run(breaker, 6, "xxx")
    assert breaker.state(6) is State.CLOSED, "it begins to count anew"


def test_a_probe_that_says_nothing_leaves_its_place_to_the_next(breaker):
    run(breaker, 0, "xxxx")
    breaker.leave(breaker.enter(5), 5, failed=None)
    assert (breaker.state(5), breaker.wait_s(5)) == (State.HALF_OPEN, 0)


def test_the_time_grows_to_a_cap_and_is_short_again_after_a_quiet_window(breaker):
    run(breaker, 0, "xxxx")
    now, waits = 0.0, []
    for _ in range(5):
        waits.append(breaker.wait_s(now))
        now += breaker.wait_s(now)
        run(breaker, now, "x")
    assert waits == [5, 10, 20, 30, 30]
    now += breaker.wait_s(now)
    run(breaker, now, "o")
    run(breaker, now + 1, "xxxx")
    assert breaker.wait_s(now + 1) == 30, "it opened again soon"
    now += 31
    run(breaker, now, "o")
    run(breaker, now + 60, "xxxx")
    assert breaker.wait_s(now + 60) == 5


def test_a_late_end_of_an_earlier_call_changes_nothing(breaker):
    late = [breaker.enter(0) for _ in range(3)]
    run(breaker, 0, "xxxx")
    breaker.leave(late[0], 1, failed=False)
    assert breaker.wait_s(1) == 4
    probe = breaker.enter(5)
    breaker.leave(late[1], 5, failed=True)
    assert breaker.wait_s(5) > 0, "the probe is still out"
    breaker.leave(probe, 5, failed=False)
    breaker.leave(late[2], 5, failed=True)
    assert breaker.state(5) is State.CLOSED


def test_it_can_be_tripped(breaker):
    breaker.trip(0)
    assert breaker.wait_s(0) == 5
    breaker.trip(1)
    assert breaker.wait_s(1) == 4


class AgainstAModel(RuleBasedStateMachine):
    """Any order of calls, ends and waits: a list of all that happened says the same as the breaker."""

    def __init__(self):
        super().__init__()
        self.breaker = Breaker(POLICY)
        self.now = 0.0
        self.out = []
        self.era = 0
        self.ends = []  # of this era: the bucket and whether it failed
        self.open_until = None
        self.probe = None

    def turned(self, open_until):
        self.era += 1
        self.ends, self.probe, self.open_until = [], None, open_until

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 6.0, 7.5, 30.0, 60.0]))
    def wait(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.breaker.wait_s(self.now) == 0)
    @rule()
    def enter(self):
        given = self.breaker.enter(self.now)
        assert given.probe == (self.open_until is not None)
        if given.probe:
            assert self.probe is None, "one probe at a time"
            self.probe = given
        self.out.append((given, self.era))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), failed=st.sampled_from([True, True, False, None]))
    def leave(self, data, failed):
        given, era = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.breaker.leave(given, self.now, failed=failed)
        if era != self.era:
            return
        if given.probe:
            self.probe = None
        if failed is None:
            return
        if given.probe:
            self.turned(self.now + self.breaker.wait_s(self.now) if failed else None)
            return
        bucket = int(self.now / 6)
        self.ends.append((bucket, failed))
        recent = [end for at, end in self.ends if at > bucket - 10]
        if failed and len(recent) >= 4 and sum(recent) * 2 >= len(recent):
            self.turned(self.now + self.breaker.wait_s(self.now))

    @invariant()
    def same(self):
        expected = State.CLOSED
        if self.open_until is not None:
            expected = State.OPEN if self.now < self.open_until else State.HALF_OPEN
        assert self.breaker.state(self.now) is expected
        assert 0 <= self.breaker.wait_s(self.now) <= 30
        free = expected is State.CLOSED or (expected is State.HALF_OPEN and self.probe is None)
        assert (self.breaker.wait_s(self.now) == 0) == free


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# Many ------------------------------------------------------------------------------------------------

A, B = ("model", "a"), ("server", "b")


@pytest.fixture
def told():
    return {}


@pytest.fixture
def breakers(clock, told) -> Breakers:
    return Breakers(POLICY, clock=clock, on_change=told.__setitem__)


def fail(breakers, key, times=4):
    for _ in range(times):
        breakers.leave(breakers.enter(key), failed={key: True})


def test_a_call_needs_all_and_takes_no_probe_where_one_refuses(breakers, clock):
    fail(breakers, A)
    clock.advance(3)
    fail(breakers, B)
    clock.advance(2)
    with pytest.raises(BreakerOpen) as refused:
        breakers.enter(A, B)
    assert (refused.value.key, refused.value.retry_after_s) == (B, 3)
    assert breakers.may_enter(A), "its probe was not taken"


def test_states_are_told(breakers, clock, told):
    fail(breakers, A)
    assert told[A] is State.OPEN
    clock.advance(5)
    given = breakers.enter(A)
    assert told[A] is State.HALF_OPEN
    breakers.leave(given, failed={A: False})
    assert told[A] is State.CLOSED
    assert breakers.not_closed("model") == []


def test_what_was_not_entered_counts_too(breakers):
    for _ in range(4):
        breakers.leave({}, failed={A: True})
    assert breakers.not_closed("model") == [A]


def test_there_are_never_too_many_and_open_ones_stay(breakers, told):
    fail(breakers, A)
    for number in range(2000):
        breakers.leave(breakers.enter(("model", str(number))), failed={})
    assert len(breakers.states()) <= 500
    assert breakers.states()[A] is State.OPEN
    assert told["model", "0"] is None


def test_a_forgotten_one_ends_quietly(breakers):
    given = breakers.enter(A)
    for number in range(1000):
        breakers.enter(("model", str(number)))
    breakers.leave(given, failed={A: True})
    assert breakers.may_enter(A)
