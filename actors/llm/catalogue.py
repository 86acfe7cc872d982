"""The models that a server lists, with their prices."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import ModelUnavailable
from .base import Answer, ModelInfo
from .chat_request import MaxPrice
from .json_values import as_count, as_list, as_object, as_text
from .price_table import Table, no_table
from .usage import read_usd

_RETRY_S = 5.0
_MILLION = 1_000_000
_CONTEXT_MEMBERS = ("context_length", "context_window", "max_model_len", "max_context_length")


class ModelCatalogue:
    """The list, read by `fetch` at most once in `fresh_s` seconds and at most once at a time.

    Where it names no price, `table` is asked for one.

    When it cannot be read again the old list is kept for another `fresh_s`. A failure before the first list,
    and a list without models, are kept for a few seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[dict[str, Any]]],
        *,
        clock: Clock,
        fresh_s: float,
        table: Table = no_table,
    ) -> None:
        self._fetch = fetch
        self._table = table
        self._clock = clock
        self._fresh_s = fresh_s
        self._fresh_until = 0.0
        self._known: dict[str, ModelInfo] = {}
        self._failure: ModelUnavailable | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the list that was read last; empty before the first."""
        return tuple(self._known)

    async def models(self) -> tuple[ModelInfo, ...]:
        """Raises `ModelUnavailable` when no list was ever read."""
        if self._clock.monotonic() >= self._fresh_until:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            # All who ask meanwhile share this read; one of them that gives up does not end it for the others.
            await asyncio.shield(self._reading)
        if self._failure is not None:
            raise ModelUnavailable(self._failure.message, **self._failure.details)
        return tuple(self._known.values())

    async def aclose(self) -> None:
        """End a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def lists(self, model: str) -> bool:
        """Whether the list that was read last has the model, under this name or without its `:variant`."""
        return model in self._known or model.partition(":")[0] in self._known or f"{model}:latest" in self._known

    def is_dearer(self, model: str, limit: MaxPrice) -> bool:
        """Whether its listed price is above the limit; false where no price is known."""
        listed = self._known.get(model)
        if listed is None:
            return False
        pairs = ((listed.prompt_usd, limit.prompt_usd), (listed.completion_usd, limit.completion_usd))
        return any(usd is not None and most is not None and usd * _MILLION > most for usd, most in pairs)

    def priced(self, answer: Answer, asked: str) -> Answer:
        """The answer with a cost by list price, or by the table's, where the server named none and one is known.

        Cached tokens count at the full prompt price, so the figure is what the tokens cost at most. Fees
        per request and for writing a cache are not in it.
        """
        usage = answer.usage
        if answer.cost_usd is not None or not usage.total_tokens:
            return answer
        model = self._priced_model(answer.model, asked)
        if model is None or model.prompt_usd is None or model.completion_usd is None:
            return answer
        cost: Decimal = usage.prompt_tokens * model.prompt_usd + usage.completion_tokens * model.completion_usd
        return replace(answer, cost_usd=cost, cost_source=model.price_source)

    def _priced_model(self, *names: str) -> ModelInfo | None:
        listed = next((self._known[name] for name in names if name in self._known), None)
        return listed or next(filter(None, map(self._table, names)), None)

    async def _read(self) -> None:
        try:
            listed = _models(await self._fetch(), self._clock.now())
            if not all(map(_is_settled, listed)):
                # In a thread: the table takes some tenths of a second to load.
                listed = await asyncio.to_thread(self._completed, listed)
        except ModelUnavailable as error:
            self._failure = None if self._known else error
        else:
            self._known = {model.id: model for model in listed}
            self._failure = None
            telemetry.MODEL_LIST_READ.set(self._clock.now().timestamp())
        self._fresh_until = self._clock.monotonic() + (self._fresh_s if self._known else _RETRY_S)

    def _completed(self, listed: list[ModelInfo]) -> list[ModelInfo]:
        return [self._with_price(model) for model in listed]

    def _with_price(self, model: ModelInfo) -> ModelInfo:
        found = None if _is_settled(model) else self._table(model.id)
        if found is None:
            return model
        return replace(
            model, prompt_usd=found.prompt_usd, completion_usd=found.completion_usd, price_source=found.price_source
        )


def _is_settled(model: ModelInfo) -> bool:
    return model.price_varies or (model.prompt_usd is not None and model.completion_usd is not None)


def _models(body: dict[str, Any], now: datetime) -> list[ModelInfo]:
    return [_model(entry, now) for entry in map(as_object, as_list(body.get("data"))) if as_text(entry.get("id"))]


def _model(entry: dict[str, Any], now: datetime) -> ModelInfo:
    pricing = as_object(entry.get("pricing"))
    name = as_text(entry.get("id"))
    return ModelInfo(
        name,
        as_text(entry.get("name")) or name,
        context_length=next((count for name in _CONTEXT_MEMBERS if (count := as_count(entry.get(name)))), None),
        prompt_usd=read_usd(pricing.get("prompt")),
        completion_usd=read_usd(pricing.get("completion")),
        # Negative prices are how OpenRouter lists its routers.
        price_varies=str(pricing.get("prompt")).startswith("-"),
        listed_at=now,
        cache_read_usd=read_usd(pricing.get("input_cache_read")),
    )
