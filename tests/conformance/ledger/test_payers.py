"""Keys and organisations: buckets of their own in the same atomic step, by the context that a call is made in."""

from typing import Any

import pytest

from actors.core.errors import BudgetExceeded
from actors.ledger.base import Balance
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.payer import Payer, SharedLimits, paying

CI = Payer("ci", "acme")


def budgets(process: Any, **limits: int) -> Budgets:
    return Budgets(
        process.ledger, UserLimits(), clock=process.clock, hold_s=600, jitter=lambda: 1.0, shared=SharedLimits(**limits)
    )


async def reserved(process: Any, scope: str) -> int:
    name = f"{scope}:d:{process.clock.now():%Y-%m-%d}"
    return (await process.ledger.balances([name]))[name].reserved


async def test_a_key_and_its_organisation_count_without_a_limit(process: Any) -> None:
    gate = budgets(process)
    with paying(CI):
        hold = await gate.reserve("a", "u", "s", amount=100, least=100)
    await gate.reserve("b", "u", "s", amount=7, least=7)
    assert [await reserved(process, scope) for scope in ("user:u", "key:ci", "org:acme")] == [107, 100, 100]
    await gate.dispatch(hold)
    await process.ledger.settle(hold, 40)  # in the buckets of its birth, whoever pays now
    month = f"key:ci:m:{process.clock.now():%Y-%m}"
    assert (await process.ledger.balances([month]))[month] == Balance(40, 0)


@pytest.mark.parametrize(
    ("limits", "scope", "other"),
    [({"key_day": 100}, "key", Payer("other", "acme")), ({"org_month": 100}, "org", Payer("ci", "other"))],
)
async def test_a_limit_of_a_key_or_an_organisation_refuses_its_own_calls_alone(
    process: Any, limits: Any, scope: str, other: Payer
) -> None:
    gate = budgets(process, **limits)
    with paying(CI):
        hold = await gate.reserve("a", "u", "s", amount=100, least=100)
        await gate.dispatch(hold)
        await process.ledger.settle(hold, 100)
        with pytest.raises(BudgetExceeded) as refused:
            await gate.reserve("b", "u2", "s2", amount=1, least=1)
        assert refused.value.details["scope"] == scope
        with pytest.raises(BudgetExceeded):
            await gate.check("u2", "s2", amount=1)
    with paying(other):
        await gate.reserve("c", "u", "s", amount=1, least=1)
