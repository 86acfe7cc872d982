"""Places and the queue for them, in any order in which sessions come, are served, give up and go."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.errors import LeaseEnded, SandboxUnavailable
from actors.sandbox.fence import Epochs, Fence, bound
from actors.sandbox.leases import Leases
from actors.testing.clock import FakeClock

PLACES, WAITING, WAIT_S = 2, 3, 30.0
SESSIONS = "abcdefg"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(SESSIONS)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("free"), st.integers(0, 9)),
        st.tuples(st.just("withdraw"), st.sampled_from(SESSIONS)),
        st.tuples(st.just("pass"), st.sampled_from([1.0, 10.0, WAIT_S])),
        st.tuples(st.just("run"), st.just(0)),
    ),
    max_size=60,
)


class World:
    """A `Leases` and everybody who has to do with it; `line` is who should be served next."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.leases = Leases(
            places=PLACES, waiting_max=WAITING, wait_s=WAIT_S, clock=self.clock, first_number=1, make_room=lambda: None
        )
        self.calls = []
        self.entered = []
        self.frees = []
        self.served = []
        self.numbers = []

    async def call(self, session):
        lease = await self.leases.enter(session)
        lease.sandbox = lease.sandbox or object()
        self.entered.append(lease)
        return lease

    async def settle(self):
        """Let everybody go on until nobody can."""
        for _ in range(20):
            await asyncio.sleep(0)

    def check(self):
        held, ending = self.leases.held, self.leases._ending
        assert len(held) + len(ending) <= PLACES
        assert not set(self.leases._held) & set(self.leases._waiting)
        assert self.leases.waiting <= WAITING
        if self.leases.waiting:
            assert len(held) + len(ending) == PLACES, "a place is free and somebody waits"
        for lease in held:
            if lease.number not in self.numbers:
                assert lease.number > max(self.numbers, default=0)
                self.numbers.append(lease.number)

    async def finish(self):
        """Everybody who was served goes; those who wait are served or refused within the time that they may wait."""
        for _ in range(PLACES + WAITING + len(SESSIONS)):
            await self.settle()
            self.frees += [self.leases.end(lease) for lease in self.leases.held if not lease.users]
            while self.frees:
                self.frees.pop()()
            while self.entered:
                self.leases.leave(self.entered.pop())
            self.check()
        self.clock.advance(WAIT_S)
        await self.settle()
        while self.entered:
            self.leases.leave(self.entered.pop())
        await self.settle()

    async def step(self, what, which):
        match what:
            case "enter":
                self.calls.append(asyncio.ensure_future(self.call(which)))
            case "leave" if self.entered:
                self.leases.leave(self.entered.pop(which % len(self.entered)))
            case "cancel" if self.calls:
                self.calls[which % len(self.calls)].cancel()
            case "end" if self.leases.held:
                self.frees.append(self.leases.end(self.leases.held[which % len(self.leases.held)]))
            case "free" if self.frees:
                self.frees.pop(which % len(self.frees))()
            case "withdraw":
                self.leases.withdraw(which)
            case "pass":
                self.clock.advance(which)
            case "run":
                await asyncio.sleep(0)
            case _:
                pass
        self.check()


async def live(steps):
    world = World()
    for what, which in steps:
        waiting, held = list(world.leases._waiting), set(world.leases._held)
        await world.step(what, which)
        # Whoever is served of those that waited came before every one who waits still.
        served = [session for session in waiting if session in set(world.leases._held) - held]
        assert served == waiting[: len(served)]
    await world.finish()
    assert all(call.cancelled() or refused_or_served(call) for call in world.calls)
    assert world.leases.waiting == 0
    assert not world.leases._ending
    assert not any(lease.users for lease in world.leases.held)
    assert world.clock.sleeper_count == 0
    assert len(asyncio.all_tasks()) == 1


def refused_or_served(call):
    return call.exception() is None or isinstance(call.exception(), SandboxUnavailable)


@settings(max_examples=150)
@given(STEPS)
def test_places_are_never_exceeded_and_nobody_is_forgotten(steps):
    asyncio.run(live(steps))


@pytest.fixture
def world():
    return World()


async def enter_all(world, sessions):
    calls = []
    for session in sessions:
        calls.append(asyncio.ensure_future(world.call(session)))
        await world.settle()
    return calls


async def test_those_who_wait_are_served_in_the_order_in_which_they_came(world):
    calls = await enter_all(world, "abcde")
    assert [call.done() for call in calls] == [True, True, False, False, False]

    for number in range(3):
        world.leases.end(world.leases.held[0])()
        await world.settle()
        assert [call.done() for call in calls] == [n < 3 + number for n in range(5)]


async def test_a_session_waits_once_however_many_calls_it_makes(world):
    *_, first, other, again = await enter_all(world, "abcdc")
    assert world.leases.waiting == 2

    world.leases.end(world.leases.held[0])()
    await world.settle()

    assert first.result() is again.result()
    assert first.result().users == 2
    assert not other.done()
    other.cancel()


async def test_who_gives_up_leaves_no_hole(world):
    *_, second, third = await enter_all(world, "abcd")
    second.cancel()
    await world.settle()
    assert world.leases.waiting == 1

    world.leases.end(world.leases.held[0])()
    await world.settle()

    assert third.result().session_id == "d"


async def test_who_gives_up_in_the_moment_of_being_served_passes_the_place_on(world):
    *_, second, third = await enter_all(world, "abcd")
    world.leases.end(world.leases.held[0])()
    second.cancel()
    await world.settle()

    assert second.cancelled()
    assert third.result().session_id == "d"


async def test_a_refusal_tells_the_position_and_what_would_help(world):
    *_, third, fourth = await enter_all(world, "abcd")
    world.clock.advance(WAIT_S / 2)
    (later,) = await enter_all(world, "c")
    world.clock.advance(WAIT_S / 2)
    await world.settle()

    with pytest.raises(SandboxUnavailable, match=r"number 2 .* raise sandbox_max_leased or sandbox_wait_s") as refused:
        await fourth
    assert refused.value.details["position"] == 2
    assert third.exception().details["position"] == 1
    assert world.leases.waiting == 1
    later.cancel()


async def test_no_more_wait_than_may(world):
    calls = await enter_all(world, "abcde")
    with pytest.raises(SandboxUnavailable, match="sandbox_max_waiting"):
        await world.leases.enter("f")
    for call in calls:
        call.cancel()


async def test_a_session_whose_sandbox_ends_gets_another_one_only_when_it_is_gone(world):
    (first,) = await enter_all(world, "a")
    free = world.leases.end(first.result())
    (again,) = await enter_all(world, "a")
    assert not again.done()

    free()
    await world.settle()

    assert again.result().number > first.result().number


async def test_at_the_end_nobody_waits_any_more(world):
    *_, waiting = await enter_all(world, "abc")
    world.leases.close()
    with pytest.raises(SandboxUnavailable, match="closed"):
        await waiting
    with pytest.raises(SandboxUnavailable, match="closed"):
        await world.leases.enter("d")


# Fences ---------------------------------------------------------------------------------------------


def test_an_earlier_epoch_is_refused_and_a_later_one_is_news():
    epochs = Epochs()
    assert not epochs.check("s", 2)
    assert not epochs.check("s", 2)
    assert epochs.check("s", 3)
    assert not epochs.check("s", None)
    assert not epochs.check("other", 1)
    with pytest.raises(LeaseEnded, match="taken over"):
        epochs.check("s", 2)


async def test_tasks_are_bound_to_what_they_were_begun_for():
    from actors.sandbox.fence import current

    async def told():
        await asyncio.sleep(0)
        return current()

    with bound(Fence(epoch=7)):
        task = asyncio.create_task(told())
    assert await task == Fence(epoch=7)
    assert current() == Fence()
