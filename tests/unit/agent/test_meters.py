"""Tools through the ledger: a row for each call, a hold where it costs something, a refusal that the model is told."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from actors.core.events import ToolCompleted, UsageUpdated
from actors.ledger.base import Balance, State
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.reaper import Reaper
from actors.ledger.sql import SqlLedger
from actors.memory.base import E5
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

SHELL = calls(("run_shell", {"command": "work"}))
PRICED = {"budget_sandbox_second_micros": Decimal(10), "sandbox_command_s": 50.0}


@pytest.fixture
def ledger(world: Any) -> SqlLedger:
    return SqlLedger(world.database)


def budgets(world: Any, ledger: SqlLedger, limit: int | None = None) -> Budgets:
    return Budgets(ledger, UserLimits(hour=limit), clock=world.clock, hold_s=600, jitter=lambda: 1.0)


async def spent(ledger: SqlLedger) -> Balance:
    return (await ledger.balances(["session:sess_1:t"]))["session:sess_1:t"]


def took(wall_s: float, cpu_s: float | None = None) -> FakeSandboxes:
    return FakeSandboxes({"work": ExecResult("ok", 0, "done", wall_s=wall_s, cpu_s=cpu_s)})


async def test_what_is_free_has_rows_and_neither_holds_nor_events(world: Any, ledger: SqlLedger) -> None:
    llm = ScriptedLLM(
        [calls(("run_shell", {"command": "work"}), ("remember", {"text": "x"}), ("nonsense", {})), says("done")]
    )
    host = world.host(llm, budgets=budgets(world, ledger), sandboxes=took(2.5))
    await host.chat(world.submit(), wait_s=5)
    rows = {(row.kind, row.name): row for row in await world.uses()}
    assert set(rows) == {("sandbox", "run_shell"), ("tool", "remember"), ("embedding", E5), ("tool", "unknown")}
    assert {(row.state, row.cost_micros, row.cost_source, row.model) for row in rows.values()} == {
        ("settled", 0, "free", "")
    }
    assert rows["sandbox", "run_shell"].seconds == 2.5
    assert rows["tool", "unknown"].outcome == "unknown_tool"
    assert [await ledger.find(row.id) for row in rows.values()] == [None] * 4
    assert {body.kind for body in await world.bodies(UsageUpdated)} == {"model"}


@pytest.mark.parametrize(("seconds", "charged"), [("wall", 25), ("cpu", 5)])
async def test_a_sandbox_is_paid_by_the_second(world: Any, ledger: SqlLedger, seconds: str, charged: int) -> None:
    llm = ScriptedLLM([SHELL, says("done")])
    changes = {**PRICED, "budget_sandbox_seconds": seconds}
    host = world.host(llm, budgets=budgets(world, ledger), sandboxes=took(2.5, 0.5), **changes)
    result = await host.chat(world.submit(), wait_s=5)
    (row,) = await world.uses()
    assert (row.kind, row.name, row.cost_micros, row.cost_source) == ("sandbox", "run_shell", charged, "price_list")
    hold = await ledger.find(row.id)
    assert hold is not None
    assert (hold.state, hold.amount, hold.charged) == (State.SETTLED, 500, charged)
    assert result.spent.cost_micros == 20 + charged
    told = [body for body in await world.bodies(UsageUpdated) if body.kind == "sandbox"]
    assert [(body.attempt_id, body.name, body.spent.cost_micros) for body in told] == [(row.id, "run_shell", charged)]


async def test_tools_and_texts_have_their_own_prices(world: Any, ledger: SqlLedger) -> None:
    llm = ScriptedLLM([calls(("remember", {"text": "x"})), says("done")])
    changes = {"budget_tool_micros": {"remember": 100}, "budget_embedding_micros": 7}
    host = world.host(llm, budgets=budgets(world, ledger), **changes)
    await host.chat(world.submit(), wait_s=5)
    assert {(row.kind, row.cost_micros) for row in await world.uses()} == {("tool", 100), ("embedding", 7)}
    assert await spent(ledger) == Balance(20 + 107, 0)


async def test_where_no_money_is_left_the_model_is_told_and_nothing_is_run(world: Any, ledger: SqlLedger) -> None:
    llm = ScriptedLLM([SHELL, says("I may not.")])
    sandboxes = took(2.5)
    host = world.host(llm, budgets=budgets(world, ledger, limit=400), sandboxes=sandboxes, **PRICED)
    result = await host.chat(world.submit(), wait_s=5)
    assert (result.status, result.message, sandboxes.runs) == ("completed", "I may not.", [])
    (told,) = await world.bodies(ToolCompleted)
    assert told.error == "budget_exceeded"
    assert "the budget of this user is" in told.content
    assert [(row.outcome, row.cost_micros) for row in await world.uses()] == [("budget_exceeded", 0)]
    assert await spent(ledger) == Balance(20, 0)


async def test_a_call_that_is_cut_off_pays_for_its_time(world: Any, ledger: SqlLedger) -> None:
    sandboxes = FakeSandboxes(hanging=["work"])
    host = world.host(ScriptedLLM([SHELL]), budgets=budgets(world, ledger), sandboxes=sandboxes, **PRICED)
    command = world.submit()
    await host.submit(command)
    await asyncio.wait_for(sandboxes.started.wait(), 30)
    assert (await spent(ledger)).reserved == 500
    world.clock.advance(3)
    await host.cancel("sess_1", "user_1", command.turn_id)
    assert [(row.outcome, row.seconds, row.cost_micros) for row in await world.uses()] == [("cancelled", 3.0, 30)]
    assert await spent(ledger) == Balance(10 + 30, 0)


@pytest.mark.parametrize(("changes", "cost"), [(PRICED, None), ({}, 0)], ids=["priced", "free"])
async def test_a_call_whose_process_dies_is_lost_and_its_hold_is_charged(
    world: Any, ledger: SqlLedger, changes: Any, cost: int | None
) -> None:
    sandboxes = FakeSandboxes(hanging=["work"])
    dead = world.host(ScriptedLLM([SHELL]), budgets=budgets(world, ledger), sandboxes=sandboxes, **changes)
    command = world.submit()
    await dead.submit(command)
    await asyncio.wait_for(sandboxes.started.wait(), 30)
    (row,) = await world.uses()
    assert row.state == "dispatched"
    # A killed process settles nothing.
    dead._loop._tools._meters._spending = None
    await world.die(dead)
    alive = world.host(ScriptedLLM([says("done")]), budgets=budgets(world, ledger), **changes)
    assert (await alive.chat(command, wait_s=5)).message == "done"
    (row,) = await world.uses()
    assert (row.outcome, row.cost_micros) == ("lost", cost)
    world.clock.advance(700)
    await Reaper(ledger, world.database, clock=world.clock).round()
    assert await spent(ledger) == Balance(20 + (500 if cost is None else 0), 0)
