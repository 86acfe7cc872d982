"""What follows from a threshold, within a turn and after the process that reached it died."""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from actors.agent.reactions import Reactions
from actors.core.errors import AccountSuspended, BudgetExceeded
from actors.core.events import BudgetReached, ModelReplaced, UsageUpdated
from actors.ledger.alerts import AlertBook, Watch
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.sql import SqlLedger
from actors.ledger.thresholds import Thresholds
from actors.llm.base import ModelInfo
from actors.security.audit import AUDIT, SqlAudit
from actors.security.cipher import ClearText
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

DOLLAR = 1_000_000
MILLION = Decimal(1_000_000)


class TwoModels(ScriptedLLM):
    """A dear one, which sessions ask for, and a cheap one."""

    def __init__(self, *scripts: Any) -> None:
        super().__init__(*scripts, models=("scripted", "cheap"))

    async def models(self) -> tuple[ModelInfo, ...]:
        dear = ModelInfo("scripted", "scripted", 100_000, Decimal(1) / MILLION, Decimal(30) / MILLION)
        cheap = ModelInfo("cheap", "cheap", 100_000, Decimal(1) / MILLION, Decimal(2) / MILLION)
        return (dear, cheap)


class Desk:
    """Budgets with one threshold at a dollar of an hour, and who reacts to it."""

    def __init__(self, world: Any, severity: str) -> None:
        watch = Watch(Thresholds.of((f"hour:10%:{severity}",), {"hour": 10 * DOLLAR}), world.clock)
        self.world = world
        self.ledger = SqlLedger(world.database, watch)
        self.budgets = Budgets(self.ledger, UserLimits(hour=10 * DOLLAR), clock=world.clock, hold_s=600)
        self.alerts = AlertBook(world.database, world.clock)
        self.audit = SqlAudit(world.database, ClearText())
        self.reactions = Reactions(self.ledger, self.alerts, self.audit, clock=world.clock, tells=False)

    def host(self, llm: Any, *, dies: bool = False, **members: Any) -> Any:
        react = None if dies else self.reactions.react
        return self.world.host(llm, budgets=self.budgets, react=react, completion_max_tokens=50, **members)

    async def audited(self) -> list[tuple[str, str]]:
        rows = await self.world.database.read(lambda c: c.execute(select(AUDIT)).all())
        return [(row.action, row.decision) for row in rows]

    async def flags(self) -> dict[str, Any]:
        scopes = self.budgets._limits.scopes("user_1", "sess_1")
        names = [scope.bucket(self.world.clock.now()).name for scope in scopes]
        found = await self.ledger.balances(names)
        return {name.split(":")[2]: balance.flag for name, balance in found.items() if balance.flag}


def costs(usd: str, text: str = "dear") -> Any:
    return says(text, cost_usd=Decimal(usd))


async def test_a_warning_is_told_and_refuses_nothing(world: Any) -> None:
    desk = Desk(world, "warning")
    host = desk.host(TwoModels([costs("0.9"), costs("0.2"), says("more")]))
    for _ in range(3):
        assert (await host.chat(world.submit(), wait_s=5)).status == "completed"
    (told,) = await world.bodies(BudgetReached)
    assert (told.severity, told.window, told.spent_micros, told.threshold_micros) == (
        "warning",
        "hour",
        1_100_000,
        DOLLAR,
    )
    assert await desk.audited() == [("budget.warning", "allowed")]
    assert await desk.flags() == {}


async def test_critical_refuses_the_dear_model_until_the_window_ends_and_a_cheap_one_goes_on(world: Any) -> None:
    desk = Desk(world, "critical")
    host = desk.host(TwoModels([costs("1"), says("cheap"), says("again")]))
    await host.chat(world.submit(), wait_s=5)
    assert await desk.flags() == {"h": "paused"}
    assert await desk.audited() == [("budget.critical", "refused")]
    with pytest.raises(BudgetExceeded) as refused:
        await host.chat(world.submit(), wait_s=5)
    details = refused.value.details
    assert (details["flag"], details["window"], details["resets_at"]) == (
        "paused",
        "hour",
        "2026-01-01T01:00:00.000000Z",
    )
    assert (await host.chat(world.submit(model="cheap"), wait_s=5)).message == "cheap"
    world.clock.advance(3600)
    assert (await host.chat(world.submit(), wait_s=5)).message == "again"


async def test_a_cheaper_model_that_is_named_is_asked_instead_and_that_is_told(world: Any) -> None:
    desk = Desk(world, "critical")
    first = calls(("remember", {"text": "x"}))
    llm = TwoModels([costs("1"), first, says("done")])
    host = desk.host(llm, budget_cheaper_model="cheap")
    await host.chat(world.submit(), wait_s=5)
    assert (await host.chat(world.submit(), wait_s=5)).message == "done"
    assert [request.model for request in llm.requests] == ["scripted", "cheap", "cheap"]
    assert await world.bodies(ModelReplaced) == [ModelReplaced("scripted", "cheap")]
    assert len(await world.bodies(UsageUpdated)) == 3


async def test_programs_are_cut_short_while_paused(world: Any) -> None:
    desk, boxes = Desk(world, "critical"), FakeSandboxes()
    code = calls(("run_python", {"code": "print(1)"}))
    llm = TwoModels([code, costs("1"), code, says("done")])
    host = desk.host(llm, sandboxes=boxes, budget_cheaper_model="cheap", budget_expensive_run_s=7)
    for _ in range(2):
        await host.chat(world.submit(), wait_s=5)
    assert [run.timeout_s for run in boxes.runs] == [60, 7]


async def test_an_emergency_suspends_the_user_in_every_window_until_somebody_lifts_it(world: Any) -> None:
    desk = Desk(world, "emergency")
    host = desk.host(TwoModels([costs("1"), says("back")]))
    await host.chat(world.submit(), wait_s=5)
    assert await desk.flags() == {"t": "suspended"}
    world.clock.advance(40 * 86_400)
    with pytest.raises(AccountSuspended):
        await host.chat(world.submit(model="cheap"), wait_s=5)
    await desk.ledger.flag("user:user_1:t", None)
    assert (await host.chat(world.submit(), wait_s=5)).message == "back"


async def test_what_a_process_left_undone_is_done_by_the_round_once(world: Any) -> None:
    desk = Desk(world, "emergency")
    host = desk.host(TwoModels([costs("1")]), dies=True)
    await host.chat(world.submit(), wait_s=5)
    await desk.reactions.round()
    assert await desk.flags() == {}  # it may be about to
    world.clock.advance(11)
    # Another one died after the audit row, before anything else.
    (alert,) = await desk.alerts.due("fired", limit=10)
    await desk.reactions._record(alert)
    for _ in range(2):
        await desk.reactions.round()
    assert await desk.flags() == {"t": "suspended"}
    assert await desk.audited() == [("budget.emergency", "refused")]
    assert [alert.state for alert in await desk.alerts.of_user("user_1", limit=10)] == ["done"]
