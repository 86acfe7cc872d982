"""Turns at a scripted gateway: our ledger and its own bill are the same money, until someone else uses the key."""

from decimal import Decimal
from typing import Any

from structlog.testing import capture_logs

from actors.core import telemetry
from actors.core.messages import UserMessage
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.drift import Reconciliation
from actors.ledger.sql import SqlLedger
from actors.llm.base import ModelRequest
from actors.llm.chat_request import OPENROUTER_DIALECT
from actors.llm.openai import OpenAIClient
from actors.testing import Reply, ScriptedModelApp, StreamingASGITransport

DEAR = Decimal("1.0000005")


def drift() -> float | None:
    return telemetry.REGISTRY.get_sample_value("agent_cost_drift_dollars", {"window": "day"})


async def test_the_gateways_bill_is_our_ledger(world: Any) -> None:
    app = ScriptedModelApp(otherwise=Reply(text=("Hi",), cost=DEAR), clock=world.clock)
    llm = OpenAIClient(
        base_url="http://m.test/v1",
        default_model="scripted",
        dialect=OPENROUTER_DIALECT,
        transport=StreamingASGITransport(app),
        clock=world.clock,
    )
    budgets = Budgets(SqlLedger(world.database), UserLimits(), clock=world.clock, hold_s=600)
    host = world.host(llm, budgets=budgets)
    one = Reconciliation(llm.key_usage, world.database, clock=world.clock, limit_usd=Decimal("0.5"))
    try:
        for _ in range(2):
            assert (await host.chat(world.submit(), wait_s=5)).message == "Hi"
        with capture_logs() as logs:
            await one.round()
        # A counter rounds each call up to a micro-dollar.
        assert drift() == -0.000001
        assert not [line for line in logs if "differs" in line["event"]]
        async for _ in llm.stream(ModelRequest("scripted", (UserMessage("of somebody else"),))):
            pass
        with capture_logs() as logs:
            await one.round()
        assert drift() == 0.9999995
        assert [line["metered_usd"] for line in logs if "differs" in line["event"]] == [str(3 * DEAR)]
        world.clock.advance(86_400)  # a new day, with nothing on it yet
        await one.round()
        assert drift() == 0
    finally:
        await llm.aclose()
