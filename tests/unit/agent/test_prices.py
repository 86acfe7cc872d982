"""What is taken for the price of a model: the list's, the table's, or what the settings say of unknown ones."""

from decimal import Decimal
from typing import Any

import pytest

from actors.agent.prices import FREE, Price, Prices
from actors.core.errors import BudgetExceeded, ModelUnavailable
from actors.llm.base import ModelInfo
from actors.testing import ScriptedLLM

ASSUMED = Price(Decimal(1), Decimal(2))
LISTED = ModelInfo("listed", "listed", prompt_usd=Decimal(3), completion_usd=Decimal(4))
NAMELESS = ModelInfo("nameless", "nameless")
ROUTER = ModelInfo("router", "router", price_varies=True)


class Listing(ScriptedLLM):
    def __init__(self, *models: ModelInfo, broken: bool = False) -> None:
        super().__init__()
        self.listed, self.broken = models, broken

    async def models(self) -> tuple[ModelInfo, ...]:
        if self.broken:
            raise ModelUnavailable("no list")
        return self.listed


def table(model: str) -> ModelInfo | None:
    if model != "tabled":
        return None
    return ModelInfo("tabled", "x", prompt_usd=Decimal(5), completion_usd=Decimal(6), price_source="fallback")


@pytest.mark.parametrize(
    ("llm", "model", "price"),
    [
        (Listing(LISTED), "listed", Price(Decimal(3), Decimal(4))),
        (Listing(LISTED), "listed:variant", Price(Decimal(3), Decimal(4))),
        (Listing(LISTED), "tabled", Price(Decimal(5), Decimal(6))),
        (Listing(broken=True), "tabled", Price(Decimal(5), Decimal(6))),
        (Listing(NAMELESS), "nameless", FREE),
        (Listing(LISTED, ROUTER), "router", ASSUMED),
        (Listing(broken=True), "nameless", ASSUMED),
    ],
    ids=["listed", "a variant", "in the table", "in the table, no list", "nobody has one", "a router", "no list"],
)
async def test_a_price(llm: Any, model: str, price: Price) -> None:
    assert await Prices(llm, unlisted="auto", assumed=ASSUMED, table=table).of(model) == price


@pytest.mark.parametrize("model", ["nameless", "typo"])
async def test_among_models_with_prices_one_without_is_refused_until_the_operator_allows_it(model: str) -> None:
    llm = Listing(LISTED, NAMELESS)
    with pytest.raises(BudgetExceeded, match="GREENROOM_BUDGET_UNLISTED_PRICE=assumed"):
        await Prices(llm, unlisted="auto", assumed=ASSUMED).of(model)
    assert await Prices(llm, unlisted="assumed", assumed=ASSUMED).of(model) == ASSUMED
    assert await Prices(llm, unlisted="free", assumed=ASSUMED).of(model) == FREE


@pytest.mark.parametrize("llm", [Listing(NAMELESS), Listing(broken=True), Listing(ROUTER)])
async def test_whoever_refuses_unknown_prices_refuses_all_of_them(llm: Any) -> None:
    with pytest.raises(BudgetExceeded):
        await Prices(llm, unlisted="refuse", assumed=ASSUMED).of(llm.listed[0].id if llm.listed else "x")
