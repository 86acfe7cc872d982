"""Prices of models whose server lists none, from the table in the wheel of `genai-prices`. Nothing is fetched.

A model is looked up with the server that sells it: at a server that the table does not know, which most local ones
are, a model of the same name may cost something else, and nothing is said.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

from ..core.clock import Clock
from .base import ModelInfo

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices

Table: TypeAlias = Callable[[str], ModelInfo | None]
"""The price of a model by its name; None where it is not known."""

_GATEWAY = "openrouter"
_MILLION = 1_000_000


def no_table(model: str) -> None:  # noqa: ARG001  a table that knows nothing
    return None


class PriceTable:
    """A `Table` for one server. The first look-up takes some tenths of a second, as the table is loaded by it."""

    def __init__(self, base_url: str, *, gateway: bool, clock: Clock) -> None:
        """`gateway`: whatever its address, the server is OpenRouter or sells what that does."""
        self._place = (_GATEWAY, None) if gateway else (None, base_url)
        self._clock = clock

    def __call__(self, model: str) -> ModelInfo | None:
        # 14 MB and 0.4 s, which most processes never need.
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  as said above

        try:
            _, found = get_snapshot().find_provider_model(model, None, *self._place)
        except LookupError:
            return None
        prices = found.get_prices(self._clock.now())
        if prices.input_mtok is None or prices.output_mtok is None:
            return None
        return ModelInfo(
            model,
            found.name or model,
            prompt_usd=_dearest(prices.input_mtok) / _MILLION,
            completion_usd=_dearest(prices.output_mtok) / _MILLION,
            price_source="fallback",
        )


def _dearest(price: "Decimal | TieredPrices") -> Decimal:
    """Of prices that rise with the length of the prompt the highest: a hold must be enough for every request."""
    return price if isinstance(price, Decimal) else max(price.base, *(tier.price for tier in price.tiers))
