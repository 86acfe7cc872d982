"""A command that holds too much is stopped; one that finds what another has not given back yet is not."""

import asyncio

import pytest

from actors.sandbox import memory_guard
from actors.sandbox.memory_guard import MemoryGuard


@pytest.fixture
def watched(monkeypatch):
    """Watch a command that holds, look for look, so many bytes of 100; what it was stopped for, and the looks taken."""
    monkeypatch.setattr(memory_guard, "_LOOK_S", 0.0)

    async def run(usage, *, patience_s=60.0):
        monkeypatch.setattr(memory_guard, "_RETURN_S", patience_s)
        looks = iter(usage)
        stopped, over = [], asyncio.Event()
        taken = []

        def look():
            held = next(looks, None)
            if held is None:
                over.set()
                return 0
            taken.append(held)
            return held

        unwatch = MemoryGuard(look, 100)(lambda verdict: (stopped.append(verdict), over.set()))
        async with asyncio.timeout(5):
            await over.wait()
        unwatch()
        return stopped, taken

    return run


async def test_too_much_is_stopped_once(watched):
    assert await watched([10, 100, 101, 102]) == (["oom"], [10, 100, 101])


async def test_enough_is_let_be(watched):
    assert await watched([10, 100, 50]) == ([], [10, 100, 50])


async def test_what_another_has_not_given_back_yet_is_not_its_fault(watched):
    assert await watched([150, 120, 90]) == ([], [150, 120, 90])
    assert await watched([150, 90, 101, 10]) == (["oom"], [150, 90, 101])


async def test_what_is_never_given_back_is_stopped_all_the_same(watched):
    stopped, _ = await watched([150] * 1000, patience_s=0.0)
    assert stopped == ["oom"]


async def test_nobody_looks_after_the_end(monkeypatch):
    monkeypatch.setattr(memory_guard, "_LOOK_S", 0.0)
    looks = []
    unwatch = MemoryGuard(lambda: looks.append(1) or 0, 100)(lambda _: None)
    async with asyncio.timeout(5):
        while not looks:  # noqa: ASYNC110  a timer of the loop sets no event
            await asyncio.sleep(0)
    unwatch()
    seen = len(looks)
    for _ in range(5):
        await asyncio.sleep(0)

    assert len(looks) == seen
