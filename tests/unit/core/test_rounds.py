"""Work that is done again and again goes on whatever one round of it raises."""

import asyncio

import pytest

from actors.core.errors import StoreUnavailable
from actors.core.rounds import repeat


@pytest.mark.parametrize("error", [StoreUnavailable("away"), OSError(24, "too many files"), ValueError("a defect")])
async def test_a_round_that_raises_is_followed_by_the_next(error):
    rounds = 0
    third = asyncio.Event()

    async def once() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            third.set()
        raise error

    task = asyncio.create_task(repeat(once, lambda: asyncio.sleep(0), name="test"))
    async with asyncio.timeout(5):
        await third.wait()
    assert not task.done()
    task.cancel()


async def test_it_rests_after_each_round_and_ends_when_cancelled():
    said: list[str] = []
    rested_twice = asyncio.Event()

    async def once() -> None:
        said.append("round")

    async def rest() -> None:
        said.append("rest")
        if len(said) == 4:
            rested_twice.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(repeat(once, rest, name="test"))
    async with asyncio.timeout(5):
        await rested_twice.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["round", "rest"] * 2
