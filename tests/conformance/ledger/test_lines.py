"""Who finds no room waits in line: nobody is overtaken, and the first is woken by whoever settles."""

import asyncio
from typing import Any

import pytest

from actors.core.errors import BudgetExceeded
from actors.ledger.base import Hold
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.lines import LONGEST_S, WAIT_S

pytestmark = pytest.mark.parametrize("backend", ["sqlite", "redis+sqlite"], indirect=True)


@pytest.fixture
def gate(process: Any) -> Budgets:
    return Budgets(process.ledger, UserLimits(hour=100), clock=process.clock, hold_s=600, jitter=lambda: 1.0)


async def sent(gate: Budgets, attempt: str, amount: int, user: str = "u") -> Hold:
    hold = await gate.reserve(attempt, user, "s", amount=amount, least=amount)
    await gate.dispatch(hold)
    return hold


async def waits(process: Any, gate: Budgets, attempt: str, amount: int) -> "asyncio.Task[Hold]":
    """Somebody who has taken a place in the line."""
    before = sum(line.length for line in gate._lines._lines.values())
    task = asyncio.create_task(gate.reserve(attempt, "u", "s", amount=amount, least=amount))
    async with asyncio.timeout(20):
        while sum(line.length for line in gate._lines._lines.values()) == before:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    await process.clock.sleeping()
    return task


async def test_the_first_is_woken_by_a_settlement_and_not_overtaken_by_who_needs_less(
    process: Any, gate: Budgets
) -> None:
    held = await sent(gate, "held", 90)
    first, second = await waits(process, gate, "first", 60), await waits(process, gate, "second", 5)
    # There is room for ten, which whoever comes later leaves to those who were there before.
    later = await waits(process, gate, "later", 5)
    async with asyncio.timeout(20):
        await gate.ledger.settle(held, 20)
        assert [(await task).amount for task in (first, second, later)] == [60, 5, 5]
    assert gate._lines._lines == {}


async def test_one_user_waits_for_no_other_and_what_is_free_for_nobody(process: Any, gate: Budgets) -> None:
    await sent(gate, "held", 100)
    waiting = await waits(process, gate, "waiting", 50)
    async with asyncio.timeout(20):
        assert (await sent(gate, "other", 100, "v")).amount == 100
        assert (await gate.reserve("free", "u", "s", amount=0, least=0)).amount == 0
    waiting.cancel()


async def test_who_leaves_the_line_holds_up_nobody(process: Any, gate: Budgets) -> None:
    held = await sent(gate, "held", 100)
    line = [await waits(process, gate, name, 50) for name in ("a", "b", "c")]
    for gone in line[:2]:
        gone.cancel()
    await asyncio.wait(line[:2], timeout=20)
    async with asyncio.timeout(20):
        await gate.ledger.settle(held, 10)
        assert (await line[2]).amount == 50


async def test_a_line_that_moves_is_waited_in_longer_but_not_for_ever(process: Any, gate: Budgets) -> None:
    clock = process.clock
    await sent(gate, "big", 60)
    small = iter([await sent(gate, f"small{at}", 1) for at in range(40)])
    waiting = await waits(process, gate, "waiting", 90)
    begun = clock.monotonic()
    while not waiting.done():
        await gate.ledger.settle(next(small), 0)
        clock.advance(WAIT_S / 4)
        asleep = asyncio.create_task(clock.sleeping())
        await asyncio.wait([waiting, asleep], return_when=asyncio.FIRST_COMPLETED)
        asleep.cancel()
    assert clock.monotonic() - begun >= LONGEST_S > WAIT_S
    with pytest.raises(BudgetExceeded):
        await waiting
