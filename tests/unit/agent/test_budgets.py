"""Turns within a budget: reserved before each attempt, settled after it, refused when nothing is left."""

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from actors.agent.orders import Pause, Resume
from actors.core.errors import AccountSuspended, BudgetExceeded, LedgerUnavailable, ModelUnavailable
from actors.core.events import TurnFailed
from actors.ledger.base import Balance, State
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.sql import SqlLedger
from actors.llm.base import ModelInfo, Resending, Retrying, TextDelta
from actors.llm.limits import CallLimits, FairSlots, LimitedLLM
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

DOLLAR = 1_000_000
CENT = Decimal("0.01")


class Priced(ScriptedLLM):
    """A cent for a completion token, nothing for a prompt."""

    async def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo("scripted", "scripted", 100_000, Decimal(0), CENT),)


class Money:
    """A user's budget in a world, and what is in it."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.ledger = SqlLedger(world.database)

    def budgets(self, limit: int = DOLLAR) -> Budgets:
        return Budgets(self.ledger, UserLimits(hour=limit), clock=self.world.clock, hold_s=600, jitter=lambda: 1.0)

    async def hour(self) -> Balance:
        name = UserLimits(hour=1).scopes("user_1", "sess_1")[0].bucket(self.world.clock.now()).name
        return (await self.ledger.balances([name]))[name]

    async def states(self) -> list[tuple[State | None, int]]:
        holds = [await self.ledger.find(attempt.id) for attempt in await self.world.attempts()]
        return [(hold.state, hold.charged) if hold else (None, 0) for hold in holds]


@pytest.fixture
def money(world: Any) -> Money:
    return Money(world)


async def test_a_turn_pays_what_its_calls_cost(world: Any, money: Money) -> None:
    llm = Priced([calls(("remember", {"text": "x"})), says("done", cost_usd=Decimal("0.02"))])
    host = world.host(llm, budgets=money.budgets(), completion_max_tokens=50)
    result = await host.chat(world.submit(), wait_s=5)
    assert result.status == "completed"
    assert await money.hour() == Balance(10 + 20_000, 0)
    assert await money.states() == [(State.SETTLED, 10), (State.SETTLED, 20_000)]


async def test_a_pause_that_comes_while_a_tool_waits_for_the_ledger_holds_it(
    world: Any, money: Money, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def is_paused(*_: str) -> bool:
        asked.set()
        await answer.wait()
        return False

    budgets, sandboxes = money.budgets(), FakeSandboxes()
    monkeypatch.setattr(budgets, "is_paused", is_paused)
    llm = Priced([calls(("run_shell", {"command": "next"})), says("done")])
    host = world.host(llm, budgets=budgets, sandboxes=sandboxes, budget_expensive_run_s=7, completion_max_tokens=50)
    command = world.submit()
    await host.submit(command)
    await asyncio.wait_for(asked.wait(), 5)
    await host.control("sess_1", "user_1", Pause())
    answer.set()
    await until(lambda: not host.status().running)
    assert (await world.types())[-1] == "turn.waiting"
    assert sandboxes.runs == []
    await host.control("sess_1", "user_1", Resume())
    assert (await host.chat(command, wait_s=5)).message == "done"
    assert [run.source for run in sandboxes.runs] == ["next"]


async def test_while_a_call_runs_its_worst_case_is_held(world: Any, money: Money, until: Any) -> None:
    gate = asyncio.Event()
    llm = Priced([[gate, *says("done")]])
    host = world.host(llm, budgets=money.budgets(), completion_max_tokens=50)
    chatting = asyncio.create_task(host.chat(world.submit(), wait_s=5))
    await until(lambda: llm.open)
    assert await money.hour() == Balance(0, 500_000)
    assert await money.states() == [(State.DISPATCHED, 0)]
    gate.set()
    await chatting
    assert await money.hour() == Balance(10, 0)


async def test_where_little_is_left_the_answer_is_cut_to_it(world: Any, money: Money) -> None:
    llm = Priced([says("one"), says("two", cost_usd=Decimal("9.00")), says("never")])
    host = world.host(llm, budgets=money.budgets(10 * DOLLAR), completion_max_tokens=2000)
    await host.chat(world.submit(), wait_s=5)
    assert llm.requests[0].max_completion_tokens == 1000
    await host.chat(world.submit(), wait_s=5)
    assert llm.requests[1].max_completion_tokens == 999  # of the ten dollars ten micro-dollars are gone
    # One dollar is left: less than the shortest answer that is worth asking for, 256 tokens.
    failed = await host.chat(world.submit(), wait_s=5)
    assert (failed.status, failed.error.code, failed.error.retryable) == ("failed", "budget_exceeded", False)
    assert len(llm.requests) == 2
    assert await money.hour() == Balance(9_000_010, 0)


async def test_a_refused_turn_costs_nothing_and_the_session_goes_on_in_the_next_hour(world: Any, money: Money) -> None:
    llm = Priced([says("dear", cost_usd=Decimal(1)), says("back")])
    host = world.host(llm, budgets=money.budgets(), completion_max_tokens=50)
    assert (await host.chat(world.submit(), wait_s=5)).status == "completed"
    with pytest.raises(BudgetExceeded) as refused:  # known before the message is taken
        await host.chat(world.submit(), wait_s=5)
    assert (refused.value.details["window"], refused.value.details["limit_micros"]) == ("hour", DOLLAR)
    assert len(await world.bodies(TurnFailed)) == 0
    world.clock.advance(3600)
    assert (await host.chat(world.submit(), wait_s=5)).message == "back"


async def test_a_budget_that_runs_out_within_a_turn_fails_it_with_its_tools_done(world: Any, money: Money) -> None:
    dear = calls(("remember", {"text": "x"}))
    *rest, answer = dear
    llm = Priced([[*rest, replace(answer, cost_usd=Decimal(1))], says("back")])
    host = world.host(llm, budgets=money.budgets(), completion_max_tokens=50)
    result = await host.chat(world.submit(), wait_s=5)
    assert (result.status, result.error.code, result.spent.cost_micros) == ("failed", "budget_exceeded", DOLLAR)
    assert result.spent.cost_known
    assert [(a.outcome, a.cost_micros) for a in await world.attempts()] == [
        ("tool_calls", DOLLAR),
        ("budget_exceeded", 0),
    ]
    assert await money.hour() == Balance(DOLLAR, 0)


async def test_a_message_that_is_sent_again_is_known_though_nothing_is_left(world: Any, money: Money) -> None:
    host = world.host(Priced([says("dear", cost_usd=Decimal(1))]), budgets=money.budgets(), completion_max_tokens=50)
    command = world.submit()
    first = await host.chat(command, wait_s=5)
    assert await host.chat(command, wait_s=5) == first


@pytest.mark.parametrize(
    ("script", "states"),
    [
        ([ModelUnavailable("no room", free=True)], [(State.SETTLED, 0)]),
        ([ModelUnavailable("broke off")], [(State.EXPIRED, 500_000)]),
        ([TextDelta("Once"), ModelUnavailable("broke off")], [(State.EXPIRED, 500_000)]),
        (
            [Retrying("model_unavailable", free=True), Resending(), *says("fine")],
            [(State.SETTLED, 0), (State.SETTLED, 10)],
        ),
        (
            [Retrying("model_unavailable"), Resending(), *says("fine")],
            [(State.EXPIRED, 500_000), (State.SETTLED, 10)],
        ),
        (says("fine", cost_usd=None), [(State.SETTLED, 10_000)]),
    ],
    ids=["free", "unknown", "unknown amid", "free, then again", "unknown, then again", "by list price"],
)
async def test_each_attempt_is_settled_with_what_is_known_of_it(
    world: Any, money: Money, script: Any, states: Any
) -> None:
    host = world.host(Priced([script]), budgets=money.budgets(), completion_max_tokens=50)
    await host.chat(world.submit(), wait_s=5)
    assert await money.states() == states
    assert await money.hour() == Balance(sum(charged for _, charged in states), 0)


async def test_a_cancelled_call_is_charged_whole_until_the_truth_comes(world: Any, money: Money, until: Any) -> None:
    llm = Priced([[TextDelta("Once"), asyncio.Event()]])
    host = world.host(llm, budgets=money.budgets(), completion_max_tokens=50)
    command = world.submit()
    chatting = asyncio.create_task(host.chat(command, wait_s=5))
    await until(lambda: llm.open)
    await host.cancel("sess_1", "user_1", command.turn_id)
    await chatting
    assert await money.states() == [(State.EXPIRED, 500_000)]


async def test_what_is_refused_or_cancelled_before_it_is_sent_costs_nothing_at_once(
    world: Any, money: Money, until: Any
) -> None:
    slots = FairSlots(CallLimits(calls=1, queue_max=1), clock=world.clock)
    llm = Priced([says("never")])
    host = world.host(LimitedLLM(llm, slots), budgets=money.budgets(), completion_max_tokens=50)
    async with slots.slot("someone", "scripted"):
        command = world.submit()
        queued = asyncio.create_task(host.chat(command, wait_s=5))
        await until(lambda: slots.waiting)
        assert (await host.chat(world.submit(session_id="sess_2"), wait_s=5)).status == "failed"  # nobody may wait more
        await host.cancel("sess_1", "user_1", command.turn_id)
        assert (await queued).status == "cancelled"
    for session in ("sess_1", "sess_2"):
        assert [(a.outcome, a.cost_source) for a in await world.attempts(session)] == [("not_sent", "free")]
    assert await money.states() == [(State.SETTLED, 0)]
    assert await money.hour() == Balance(0, 0)
    assert llm.requests == []


async def test_a_free_model_is_asked_though_nothing_is_left_but_not_of_a_suspended_user(
    world: Any, money: Money
) -> None:
    spent = world.host(Priced([says("dear", cost_usd=Decimal(1))]), budgets=money.budgets(), completion_max_tokens=50)
    await spent.chat(world.submit(), wait_s=5)
    free = world.host(ScriptedLLM(otherwise=says("free", cost_usd=None)), budgets=money.budgets())
    assert (await free.chat(world.submit(session_id="sess_2"), wait_s=5)).message == "free"
    name = UserLimits(hour=1).scopes("user_1", "sess_1")[0].bucket(world.clock.now()).name
    await money.ledger.flag(name, "suspended")
    with pytest.raises(AccountSuspended):
        await free.chat(world.submit(session_id="sess_2"), wait_s=5)


async def test_a_ledger_that_does_not_answer_fails_the_call_and_nothing_is_sent(world: Any, money: Money) -> None:
    class Silent(SqlLedger):
        async def reserve(self, wanted: Any) -> Any:
            raise LedgerUnavailable("Redis does not answer")

    llm = Priced([says("never")])
    budgets = Budgets(Silent(world.database), UserLimits(hour=DOLLAR), clock=world.clock, hold_s=600)
    host = world.host(llm, budgets=budgets, completion_max_tokens=50)
    result = await host.chat(world.submit(), wait_s=5)
    assert (result.status, result.error.code, result.error.retryable) == ("failed", "ledger_unavailable", True)
    assert llm.requests == []
    assert [(a.outcome, a.cost_micros) for a in await world.attempts()] == [("ledger_unavailable", 0)]


async def test_a_reservation_that_cannot_be_sent_is_settled_with_nothing(world: Any, money: Money) -> None:
    class Forgetful(SqlLedger):
        async def dispatch(self, hold: Any) -> Any:
            raise LedgerUnavailable("Redis does not answer")

    budgets = Budgets(Forgetful(world.database), UserLimits(hour=DOLLAR), clock=world.clock, hold_s=600)
    host = world.host(Priced([says("never")]), budgets=budgets, completion_max_tokens=50)
    assert (await host.chat(world.submit(), wait_s=5)).error.code == "ledger_unavailable"
    assert await money.hour() == Balance(0, 0)
