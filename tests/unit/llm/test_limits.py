"""Slots: never more than the limit, users take turns, and none is lost whenever a caller is cancelled."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.errors import ModelUnavailable
from actors.core.messages import UserMessage
from actors.llm.base import ModelRequest, Queued, Sending, TextDelta
from actors.llm.limits import CallLimits, FairSlots, LimitedLLM
from actors.testing import FakeClock, ScriptedLLM, says


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


class Calls:
    """Calls that hold their slot until they are told to end."""

    def __init__(self, limits, clock=None):
        self.slots = FairSlots(limits, clock=clock or FakeClock())
        self.started = []
        self.tasks = {}
        self.ends = {}

    def call(self, name, user="u", model="m"):
        async def run():
            async with self.slots.slot(user, model):
                self.started.append(name)
                await self.ends[name].wait()

        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(run())

    async def end(self, name):
        self.ends[name].set()
        await asyncio.wait([self.tasks[name]])
        await settle()

    async def end_all(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.wait(self.tasks.values())
        assert (self.slots.running, self.slots.waiting) == (0, 0)


async def test_users_take_turns_and_a_users_calls_keep_their_order():
    calls = Calls(CallLimits(calls=1))
    calls.call("first")
    await settle()
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        calls.call(name, user=name[0])
        await settle()
    for name in ("first", "a1", "b1", "c1", "a2", "b2"):
        await calls.end(name)
    assert calls.started == ["first", "a1", "b1", "c1", "a2", "b2", "a3"]
    await calls.end_all()


async def test_a_full_model_holds_up_nobody_who_asks_for_another():
    calls = Calls(CallLimits(calls=2, calls_per_model=1))
    calls.call("a")
    await settle()
    calls.call("b")
    calls.call("c", model="other")
    await settle()
    assert calls.started == ["a", "c"]
    await calls.end("a")
    assert calls.started == ["a", "c", "b"]
    await calls.end_all()


async def test_too_many_may_not_wait():
    calls = Calls(CallLimits(calls=1, queue_max=1))
    for name in ("a", "b"):
        calls.call(name)
    await settle()
    with pytest.raises(ModelUnavailable) as refused:
        async with calls.slots.slot("u", "m"):
            pass
    assert refused.value.retryable
    assert (refused.value.details["not_sent"], refused.value.details["free"]) == (True, True)
    assert refused.value.details["retry_after_s"] > 0
    await calls.end_all()


async def test_nobody_waits_for_ever():
    clock = FakeClock()
    calls = Calls(CallLimits(calls=1, queue_s=5), clock)
    calls.call("a")
    await settle()
    calls.call("b")
    await clock.sleeping()
    clock.advance(5)
    await asyncio.wait([calls.tasks["b"]])
    assert isinstance(calls.tasks["b"].exception(), ModelUnavailable)
    await settle()
    assert (calls.slots.running, calls.slots.waiting, clock.sleeper_count) == (1, 0, 0)
    await calls.end_all()


@pytest.mark.parametrize("moment", range(12))
async def test_a_cancel_at_any_moment_loses_no_slot(moment):
    calls = Calls(CallLimits(calls=1))
    calls.call("a")
    await settle()
    calls.call("b")
    calls.call("c")
    await settle()
    calls.ends["a"].set()
    for _ in range(moment):
        await asyncio.sleep(0)
    calls.tasks["b"].cancel()
    await settle()
    assert calls.started[-1] == "c"
    assert (calls.slots.running, calls.slots.waiting) == (1, 0)
    await calls.end_all()


STEP = st.tuples(
    st.sampled_from(["call", "call", "end", "cancel", "tick", "late"]),
    st.sampled_from("abc"),
    st.sampled_from("mn"),
    st.integers(0, 30),
)


class Play:
    """Random steps on slots; at every moment the limits hold."""

    def __init__(self, most, most_of_one):
        self.most, self.most_of_one = most, most_of_one
        self.clock = FakeClock()
        self.calls = Calls(CallLimits(calls=most, calls_per_model=most_of_one, queue_s=50), self.clock)
        self.models = {}

    async def step(self, kind, user, model, pick):
        names = [name for name, task in self.calls.tasks.items() if not task.done()]
        if kind == "call":
            self.models[len(self.models)] = model
            self.calls.call(len(self.models) - 1, user, model)
        elif kind == "end" and names:
            self.calls.ends[names[pick % len(names)]].set()
        elif kind == "cancel" and names:
            self.calls.tasks[names[pick % len(names)]].cancel()
        elif kind == "late":
            self.clock.advance(pick)
        for _ in range(pick % 4 if kind == "tick" else 1):
            await asyncio.sleep(0)

    def check(self):
        running = [n for n in self.calls.started if not self.calls.tasks[n].done() and not self.calls.ends[n].is_set()]
        assert len(running) <= self.most
        assert all(sum(self.models[n] == m for n in running) <= self.most_of_one for m in "mn")


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(1, 3), st.integers(1, 2))
def test_limits_hold_nobody_starves_and_nothing_is_lost(steps, most, most_of_one):
    async def run():
        play = Play(most, most_of_one)
        for step in steps:
            await play.step(*step)
            play.check()
        for event in play.calls.ends.values():  # let everything through that still waits
            event.set()
        for _ in range(20 * (len(steps) + 1)):
            await asyncio.sleep(0)
        assert all(task.done() for task in play.calls.tasks.values()), "somebody waits although slots are free"
        assert (play.calls.slots.running, play.calls.slots.waiting) == (0, 0)

    asyncio.run(run())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 4))
def test_a_users_wait_does_not_grow_with_anothers_calls(crowd, most):
    async def play():
        calls = Calls(CallLimits(calls=most))
        for number in range(crowd + most):
            calls.call(number, user="greedy")
        await settle()
        calls.call("mine", user="modest")
        await settle()
        ended = 0
        while "mine" not in calls.started:
            await calls.end(calls.started[ended])
            ended += 1
        assert ended <= 2
        await calls.end_all()

    asyncio.run(play())


async def test_a_model_under_limits_is_a_model():
    llm = ScriptedLLM(otherwise=says("hi"))
    limited = LimitedLLM(llm, FairSlots(CallLimits(calls=1), clock=FakeClock()))
    request = ModelRequest("", (UserMessage("hi"),), user_ref="u")
    async with aclosing(limited.stream(request)) as first:
        assert [await anext(first) for _ in range(3)] == [Queued(), Sending(), TextDelta("hi")]
        other = limited.stream(request)
        assert await anext(other) == Queued()
        second = asyncio.ensure_future(anext(other))
        await settle()
        assert (llm.open, second.done()) == (1, False)
    await settle()
    assert await second == Sending()
    assert await anext(other) == TextDelta("hi")
    assert limited.default_model == "scripted"
    assert await limited.generation("gen-1") is None
    await limited.aclose()
    assert llm.closed
