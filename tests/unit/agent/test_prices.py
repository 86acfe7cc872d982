"""What a call may cost at most, whichever model answers it."""

from decimal import Decimal

import pytest

from actors.agent.prices import FREE, Price, Prices, Unlisted
from actors.core.errors import BudgetExceeded
from actors.llm.base import ModelInfo
from actors.testing import ScriptedLLM

LISTED = {"asked": Price(Decimal(2), Decimal(3)), "wordy": Price(Decimal(1), Decimal(9)), "gratis": FREE}


class Listing(ScriptedLLM):
    async def models(self) -> tuple[ModelInfo, ...]:
        return tuple(ModelInfo(name, name, None, one.prompt_usd, one.completion_usd) for name, one in LISTED.items())


def prices(*fallbacks: str, unlisted: Unlisted = "auto") -> Prices:
    assumed = Price(Decimal(5), Decimal(6))
    return Prices(Listing(models=("asked",)), unlisted=unlisted, assumed=assumed, fallbacks=fallbacks)


async def test_the_dearest_of_what_may_answer_is_held() -> None:
    assert await prices().of("") == LISTED["asked"]
    assert await prices("wordy", "gratis").of("asked") == Price(Decimal(2), Decimal(9))
    assert await prices("wordy").of("gratis") == LISTED["wordy"]
    assert await prices("unknown").of("asked") == Price(Decimal(5), Decimal(6))


async def test_a_model_of_unknown_price_is_not_asked_by_way_of_another() -> None:
    with pytest.raises(BudgetExceeded):
        await prices("unknown", unlisted="refuse").of("asked")
