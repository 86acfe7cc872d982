"""Redis dies, hangs, and comes back with nothing or with old data: nothing is lost and no limit is passed."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from actors.core.errors import LedgerUnavailable
from actors.ledger.base import Balance, Denied, Hold, State

U = "user:u:t"


async def reserved(process: Any, attempt: str, amount: int) -> Hold:
    made = await process.ledger.reserve(process.wanted(attempt, amount))
    assert isinstance(made, Hold), made
    return made


async def sent(process: Any, attempt: str, amount: int) -> Hold:
    hold = await reserved(process, attempt, amount)
    assert await process.ledger.dispatch(hold) is None
    return hold


async def balance(ledger: Any) -> Balance:
    return (await ledger.balances([U]))[U]


@pytest.mark.parametrize("kept", [False, True], ids=["empty", "with old data"])
async def test_a_redis_that_was_killed_is_rebuilt_before_anything_passes(
    make_redis: Callable[..., Any], over: Callable[..., Any], kept: bool
) -> None:
    redis = make_redis(kept=kept)
    process, other = over(redis.url), over(redis.url)
    await process.ledger.settle(await sent(process, "paid", 30), 25)
    running = await sent(process, "running", 40)
    unsent = await reserved(process, "unsent", 10)
    await process.ledger.flag("user:v:t", "paused")

    redis.stop()
    with pytest.raises(LedgerUnavailable) as refused:
        await process.ledger.reserve(process.wanted("new", 1))
    assert refused.value.retryable
    with pytest.raises(LedgerUnavailable):
        await process.ledger.dispatch(unsent)
    # What was sent is settled all the same: the book is in SQL.
    assert (await process.ledger.settle(running, 35)).state is State.SETTLED

    redis.start()
    assert isinstance(await other.ledger.reserve(other.wanted("too much", 41)), Denied)
    assert await balance(other.ledger) == Balance(60, 0)
    assert (await other.ledger.reserve(other.wanted("v", 1, "v"))).flag == "paused"
    await sent(other, "rest", 40)
    assert await balance(process.ledger) == await balance(process.book) == Balance(60, 40)


async def test_a_reservation_that_redis_forgot_passes_again_only_where_there_is_room(
    make_redis: Callable[..., Any], over: Callable[..., Any]
) -> None:
    redis = make_redis()
    process = over(redis.url)
    first, second = await reserved(process, "first", 50), await reserved(process, "second", 50)
    redis.stop()
    redis.start()
    await sent(process, "quicker", 50)
    assert await process.ledger.dispatch(first) is None
    denied = await process.ledger.dispatch(second)
    assert isinstance(denied, Denied)
    assert await balance(process.ledger) == await balance(process.book) == Balance(0, 100)


async def test_a_redis_that_says_nothing_is_given_up(make_redis: Callable[..., Any], over: Callable[..., Any]) -> None:
    redis = make_redis()
    process = over(redis.url)
    hold = await sent(process, "a", 10)
    os.kill(redis._process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(LedgerUnavailable):
                await process.ledger.reserve(process.wanted("b", 1))
            await process.ledger.settle(hold, 4)
    finally:
        os.kill(redis._process.pid, signal.SIGCONT)
    # It kept what it had, and is behind the book by what was settled meanwhile. Overdue, that is put right.
    assert await balance(process.book) == Balance(4, 0)
    process.clock.advance(3600)
    for found in await process.ledger.overdue(process.clock.now(), limit=10):
        await process.ledger.expire(found)
    assert await balance(process.ledger) == Balance(4, 0)
    assert await process.ledger.overdue(process.clock.now(), limit=10) == ()


async def test_redis_dies_amid_many_reservations_and_the_sums_are_right(
    make_redis: Callable[..., Any], over: Callable[..., Any]
) -> None:
    redis = make_redis()
    processes = [over(redis.url) for _ in range(2)]
    limit, spent, done = 2000, [], [0]

    async def worker(at: int) -> None:
        process = processes[at % 2]
        for turn in range(20):
            try:
                wanted = process.wanted(f"w{at}-{turn}", 10, limit=limit)
                hold = await process.ledger.reserve(wanted)
                if isinstance(hold, Denied) or await process.ledger.dispatch(hold) is not None:
                    continue
            except LedgerUnavailable:
                continue
            finally:
                done[0] += 1
            spent.append(7)
            await process.ledger.settle(hold, 7)

    async def nemesis() -> None:
        for part in (60, 140, 220):
            while done[0] < part:  # noqa: ASYNC110 - progress of others, of which no event tells
                await asyncio.sleep(0.001)
            redis.stop()
            redis.start()

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        group.create_task(nemesis())
        for at in range(16):
            group.create_task(worker(at))
    process = processes[0]
    for found in await process.ledger.overdue(process.wanted("", 1).until, limit=1000):
        await process.ledger.expire(found)
    assert await balance(process.ledger) == await balance(process.book) == Balance(sum(spent), 0)
    assert 0 < sum(spent) <= limit
