"""What our ledger says of a day and a month, held against the model server's meter."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors.core import telemetry
from actors.ledger.book import AttemptClosed, AttemptOpened, record
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.drift import Reconciliation
from actors.llm.base import KeyUsage


def drift(window: str) -> float | None:
    return telemetry.REGISTRY.get_sample_value("agent_cost_drift_dollars", {"window": window})


class Meter:
    def __init__(self) -> None:
        self.usage: KeyUsage | None = None

    async def __call__(self) -> KeyUsage | None:
        return self.usage


@pytest.fixture
async def spent(process: Any) -> None:
    """Two dollars this day: one settled, one of an attempt of which nothing was heard. A half the day before."""
    gate = Budgets(process.ledger, UserLimits(), clock=process.clock, hold_s=600)

    async def attempt(attempt_id: str, cost_micros: int | None, **opened: Any) -> None:
        now = process.clock.now()
        hold = await gate.reserve(attempt_id, "u", "s", amount=1_000_000, least=1_000_000)
        await gate.dispatch(hold)
        await (process.ledger.expire(hold) if cost_micros is None else process.ledger.settle(hold, cost_micros))
        usd = None if cost_micros is None else Decimal(cost_micros) / 1_000_000
        entries = [
            AttemptOpened(attempt_id, "t", "s", "u", "m", now, **opened),
            AttemptClosed(attempt_id, "x", now, cost_usd=usd),
        ]
        await process.database.write(lambda c: record(c, entries))

    start = process.clock.now()
    middle = (start.replace(day=1) + timedelta(days=32)).replace(day=20, hour=12)
    process.clock.advance((middle - start).total_seconds())
    await attempt("yesterday", 500_000)
    process.clock.advance(timedelta(days=1).total_seconds())
    await attempt("settled", 1_000_000)
    await attempt("unheard", None)
    await attempt("tool", 9_000_000, kind="sandbox", name="run_python")


@pytest.mark.usefixtures("spent")
async def test_the_difference_is_told_by_day_and_by_month(process: Any) -> None:
    meter = Meter()
    one = Reconciliation(meter, process.database, clock=process.clock, limit_usd=Decimal("0.25"))
    meter.usage = KeyUsage(Decimal("2.2"), Decimal("2.1"))
    with capture_logs() as logs:
        await one.round()
    assert (drift("day"), drift("month")) == (pytest.approx(0.2), pytest.approx(-0.4))
    assert logs == []
    meter.usage = KeyUsage(Decimal("1.7"), None)
    with capture_logs() as logs:
        await one.round()
    assert (drift("day"), drift("month")) == (pytest.approx(-0.3), pytest.approx(-0.4))
    assert [(line["log_level"], line["drift_usd"]) for line in logs] == [("warning", "-0.3")]


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize("usage", [None, KeyUsage()], ids=["no meter", "a meter that says nothing of the day"])
async def test_what_is_not_told_is_not_compared(process: Any, usage: Any) -> None:
    telemetry.COST_DRIFT_DOLLARS.clear()
    meter = Meter()
    meter.usage = usage
    await Reconciliation(meter, process.database, clock=process.clock, limit_usd=Decimal(0)).round()
    assert (drift("day"), drift("month")) == (None, None)
