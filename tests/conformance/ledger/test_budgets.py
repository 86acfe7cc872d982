"""A dollar, and 256 who want it at once: it is not passed, and it is used. And how a refusal is worded."""

import asyncio
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import AccountSuspended, BudgetExceeded
from actors.ledger.base import Balance
from actors.ledger.book import AttemptClosed, AttemptOpened, record
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.reaper import Reaper

DOLLAR = 1_000_000


def budgets(process: Any, limit: int = DOLLAR, *, clock: Any = None) -> Budgets:
    return Budgets(process.ledger, UserLimits(hour=limit), clock=clock or process.clock, hold_s=600)


class PatientClock(SystemClock):
    """Its seconds are long: how fast this machine is must not decide who gives up waiting."""

    def monotonic(self) -> float:
        return super().monotonic() / 30


@pytest.mark.timeout(300)
async def test_256_who_reserve_at_once_use_a_dollar_and_no_more(open_process: Any) -> None:
    random.seed(7)
    processes = [open_process() for _ in range(2)]
    clock = PatientClock()
    gates = [budgets(process, clock=clock) for process in processes]
    asked = [(random.randrange(5_000, 60_000), random.uniform(0.2, 1)) for _ in range(400)]
    queue = list(enumerate(asked))
    spent = 0

    async def worker(at: int) -> None:
        nonlocal spent
        gate = gates[at % 2]
        while queue:
            number, (amount, share) = queue.pop()
            try:
                hold = await gate.reserve(f"att{number}", "user_1", "sess_1", amount=amount, least=1_000)
            except BudgetExceeded:
                continue
            await gate.dispatch(hold)
            cost = min(hold.amount, max(1, int(amount * share)))
            await gate.ledger.settle(hold, cost)
            spent += cost

    async with asyncio.timeout(240), asyncio.TaskGroup() as group:
        for at in range(256):
            group.create_task(worker(at))
    bucket = UserLimits(hour=DOLLAR).scopes("user_1", "sess_1")[0].bucket(clock.now()).name
    assert (await processes[0].ledger.balances([bucket]))[bucket].reserved == 0
    assert 0.99 * DOLLAR <= spent <= DOLLAR


async def test_who_finds_no_room_waits_for_what_is_held(process: Any) -> None:
    gate = budgets(process, 100)
    first = await gate.reserve("a", "u", "s", amount=100, least=100)
    await gate.dispatch(first)
    waiting = asyncio.create_task(gate.reserve("b", "u", "s", amount=50, least=50))
    await process.clock.sleeping()
    await process.ledger.settle(first, 40)
    process.clock.advance(0.1)
    assert (await waiting).amount == 50


async def test_after_two_seconds_it_is_refused(process: Any) -> None:
    gate = budgets(process, 100)
    await gate.reserve("a", "u", "s", amount=100, least=100)
    waiting = asyncio.create_task(gate.reserve("b", "u", "s", amount=50, least=50))
    while not waiting.done():
        await process.clock.sleeping()
        process.clock.advance(0.5)
        if process.clock.monotonic() >= 2:
            break
    async with asyncio.timeout(10):
        with pytest.raises(BudgetExceeded) as refused:
            await waiting
    assert refused.value.details == {
        "scope": "user",
        "window": "hour",
        "limit_micros": 100,
        "spent_micros": 0,
        "reserved_micros": 100,
        "resets_at": "2026-01-01T01:00:00.000000Z",
        "what_to_do": "Wait for the next window, ask for a shorter answer, or ask an operator for a higher limit.",
    }
    assert not refused.value.retryable


async def test_a_full_budget_is_refused_at_once_and_the_next_hour_has_its_own(process: Any) -> None:
    gate = budgets(process, 100)
    hold = await gate.reserve("a", "u", "s", amount=100, least=100)
    await gate.dispatch(hold)
    await process.ledger.settle(hold, 100)
    for refused in (gate.reserve("b", "u", "s", amount=1, least=1), gate.check("u", "s", amount=1)):
        with pytest.raises(BudgetExceeded):
            await refused
    await gate.check("u", "s", amount=0)
    process.clock.advance(3600)
    await gate.check("u", "s", amount=1)
    await gate.reserve("c", "u", "s", amount=100, least=100)


async def test_what_is_only_held_is_no_reason_to_refuse_a_message(process: Any) -> None:
    gate = budgets(process, 100)
    await gate.reserve("a", "u", "s", amount=100, least=100)
    await gate.check("u", "s", amount=1)


async def test_a_pause_is_named_only_where_it_is_why(process: Any) -> None:
    gate = budgets(process, 100)
    hold = await gate.reserve("a", "u", "s", amount=100, least=100)
    await gate.dispatch(hold)
    await process.ledger.settle(hold, 100)
    hour = UserLimits(hour=100).scopes("u", "s")[0].bucket(process.clock.now()).name
    await process.ledger.flag(hour, "paused")
    for dear in (False, True):
        with pytest.raises(BudgetExceeded) as refused:
            await gate.reserve("b", "u", "s", amount=1, least=1, dear=dear)
        assert refused.value.details.get("flag") == ("paused" if dear else None)


async def test_a_suspended_user_is_told_so(process: Any) -> None:
    gate = budgets(process)
    hour = UserLimits(hour=1).scopes("u", "s")[0].bucket(process.clock.now()).name
    await process.ledger.flag(hour, "suspended")
    for refused in (gate.reserve("a", "u", "s", amount=0, least=0), gate.check("u", "s", amount=0)):
        with pytest.raises(AccountSuspended):
            await refused


async def test_the_reaper_charges_the_truth_where_the_book_of_attempts_knows_it(process: Any) -> None:
    gate = budgets(process)
    for name in ("known", "lost", "unsent"):
        hold = await gate.reserve(name, "u", "s", amount=100, least=100)
        if name != "unsent":
            await gate.dispatch(hold)
    now = process.clock.now()
    entries = [AttemptOpened(name, "turn", "s", "u", "m", now) for name in ("known", "lost")]
    known = AttemptClosed("known", "stop", now, cost_usd=Decimal("0.00003"))
    await process.database.write(lambda c: record(c, [*entries, known]))

    reaper = Reaper(process.ledger, process.database, clock=process.clock)
    assert await reaper.round() == 0
    process.clock.advance(timedelta(minutes=11).total_seconds())
    assert await reaper.round() == 3
    assert (await process.ledger.balances(["session:s:t"]))["session:s:t"] == Balance(130, 0)
    assert await reaper.round() == 0
