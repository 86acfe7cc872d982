"""What a model call may cost at most, before it is sent."""

import asyncio
import json
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Literal, TypeAlias

from ..core.errors import BudgetExceeded, UnavailableError
from ..core.messages import Usage
from ..core.money import MICROS_PER_USD, to_micros
from ..llm.base import LLM, ModelInfo, ModelRequest
from ..llm.price_table import Table, no_table

Unlisted: TypeAlias = Literal["auto", "free", "assumed", "refuse"]

_LIST_S = 2.0
"""Time for the list of models; without it a price is assumed."""

_MESSAGE_TOKENS = 16
"""What a message costs beside its text: its role, and the marks around it."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token."""

    prompt_usd: Decimal
    completion_usd: Decimal

    @property
    def is_free(self) -> bool:
        return not self.prompt_usd and not self.completion_usd

    def of(self, usage: Usage) -> int:
        """Micro-dollars for tokens, rounded up."""
        return to_micros(usage.prompt_tokens * self.prompt_usd + usage.completion_tokens * self.completion_usd)

    def affordable_tokens(self, prompt_tokens: int, micros: int, *, most: int) -> int:
        """Completion tokens that a sum buys beside the prompt."""
        left = Decimal(micros) / MICROS_PER_USD - prompt_tokens * self.prompt_usd
        if not self.completion_usd:
            return most
        return min(most, int((left / self.completion_usd).to_integral_value(ROUND_FLOOR)))


FREE = Price(Decimal(0), Decimal(0))


def prompt_tokens_at_most(request: ModelRequest) -> int:
    """An upper bound: a token is a byte of text at least, with every tokenizer that reads bytes.

    Nothing tighter holds for every text: a vocabulary need not have any longer piece, and rare scripts and random
    letters do come to nearly a token a byte. What was held too much is free again when the call has ended.
    """
    texts = [json.dumps(asdict(part), ensure_ascii=False, default=str) for part in (*request.messages, *request.tools)]
    return sum(len(text.encode("utf-8", "replace")) + _MESSAGE_TOKENS for text in texts)


class Prices:
    """The list prices of a model server, those of `table` beside them, and what is taken where neither knows one.

    `unlisted`: `auto` takes a server of which no price at all is known for free (most local ones) and refuses a model
    without a price where others have one; it takes `assumed` for a router to other models, and while the list cannot
    be read. `refuse` asks for nothing whose price is unknown.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        unlisted: Unlisted,
        assumed: Price,
        table: Table = no_table,
        fallbacks: tuple[str, ...] = (),
    ) -> None:
        """`fallbacks` are models that may answer in place of the one that is asked."""
        self._llm = llm
        self._fallbacks = fallbacks
        self._unlisted = unlisted
        self._assumed = assumed
        self._table = table

    async def of(self, model: str) -> Price:
        """The dearest of what may answer, for prompt and completion each: whoever does costs no more.

        Raises `BudgetExceeded` when one of the prices is unknown and that is refused.
        """
        try:
            async with asyncio.timeout(_LIST_S):
                listed = await self._llm.models()
        except (UnavailableError, TimeoutError):
            listed = None
        prices = [await self._of(one, listed) for one in (model or self._llm.default_model, *self._fallbacks)]
        return Price(max(one.prompt_usd for one in prices), max(one.completion_usd for one in prices))

    async def _of(self, model: str, listed: tuple[ModelInfo, ...] | None) -> Price:
        known = {one.id: one for one in listed or ()}
        found = known.get(model) or known.get(model.partition(":")[0])
        if found is None:
            found = await asyncio.to_thread(self._table, model)
        if found is not None and (price := _price(found)) is not None:
            return price
        can_be_assumed = listed is None or (found is not None and found.price_varies)
        return self._without(model, can_be_assumed=can_be_assumed, anything_priced=any(map(_price, listed or ())))

    def _without(self, model: str, *, can_be_assumed: bool, anything_priced: bool) -> Price:
        match self._unlisted:
            case "free":
                return FREE
            case "assumed":
                return self._assumed
            case "auto" if can_be_assumed:
                return self._assumed
            case "auto" if not anything_priced:
                return FREE
            case _:
                raise BudgetExceeded(
                    f"the price of the model {model!r} is not known, and nothing is asked for whose price is unknown;"
                    " GREENROOM_BUDGET_UNLISTED_PRICE=assumed lets it be asked, at the price that is assumed"
                )


def _price(info: ModelInfo) -> Price | None:
    if info.prompt_usd is None or info.completion_usd is None:
        return None
    return Price(info.prompt_usd, info.completion_usd)
