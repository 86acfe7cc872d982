"""What a message would cost before it is sent: at most, and probably, and whether there is money for it."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.errors import UnavailableError
from ..core.messages import ToolSpec, Usage, UserMessage
from ..ledger.gauges import Gauge, Gauges
from ..ledger.model_uses import ModelUses, RecentCall
from ..llm.base import LLM, ModelInfo, ModelRequest
from .book import SessionBook
from .prices import Price, Prices, prompt_tokens_at_most
from .prompt import messages_for
from .state import SessionState
from .tool_uses import CHARS_PER_TOKEN

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Likely:
    """By the user's own calls of that model: `calls` of them, in `turns` turns. Medians; micro-dollars for one call."""

    calls: int
    turns: int
    prompt_tokens: int
    completion_tokens: int
    calls_per_turn: float
    micros: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """A model for which there would be money."""

    model: str
    worst_micros: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """One model call of a message. `worst_micros` is what would be held for it; more cannot be spent.

    `likely` is None without rows of that model. `fits` says that no budget is too small for the worst case.
    `alternative` is the dearest model that would fit, where this one does not.
    """

    model: str
    price: Price
    prompt_tokens_at_most: int
    completion_tokens_at_most: int
    worst_micros: int
    likely: Likely | None
    gauges: tuple[Gauge, ...]
    alternative: Alternative | None = None

    @property
    def fits(self) -> bool:
        return all(gauge.flag is None and fits(gauge, self.worst_micros) for gauge in self.gauges)


def fits(gauge: Gauge, micros: int) -> bool:
    """Whether a budget has room for a sum."""
    return gauge.left is None or micros <= gauge.left


@dataclass(frozen=True, slots=True)
class Question:
    """What a user thinks of sending, to a session of theirs or to a new one; with `model` None to the session's."""

    user_id: str
    message: str
    session_id: str | None = None
    model: str | None = None
    system: str | None = None
    max_completion_tokens: int | None = None


class Estimates:
    """Sends nothing and holds nothing."""

    def __init__(
        self,
        book: SessionBook,
        uses: ModelUses,
        gauges: Gauges,
        prices: Prices,
        llm: LLM,
        *,
        tools: tuple[ToolSpec, ...],
        max_completion_tokens: int,
        default_system: str | None,
    ) -> None:
        self._book = book
        self._uses = uses
        self._gauges = gauges
        self._prices = prices
        self._llm = llm
        self._tools = tools
        self._max_completion_tokens = max_completion_tokens
        self._default_system = default_system

    async def of(self, question: Question) -> Estimate:
        """Raises `SessionNotFound`, `BudgetExceeded` where an unknown price is refused, `LedgerUnavailable`."""
        request = await self._request(question)
        price = await self._prices.of(request.model)
        calls = await self._uses.recent(question.user_id, request.model)
        worst = Usage(prompt_tokens_at_most(request), request.max_completion_tokens)
        estimate = Estimate(
            model=request.model,
            price=price,
            prompt_tokens_at_most=worst.prompt_tokens,
            completion_tokens_at_most=worst.completion_tokens,
            worst_micros=price.of(worst),
            likely=likely(calls, worst, question, price),
            gauges=await self._gauges.of(question.user_id),
        )
        if estimate.fits:
            return estimate
        return replace(estimate, alternative=fitting(await self._listed(), worst, estimate.gauges, but=request.model))

    async def _request(self, question: Question) -> ModelRequest:
        """The first request of the turn, as the session would make it."""
        state = SessionState(question.session_id or "")
        model, system = question.model, question.system
        if question.session_id is not None:
            row = await self._book.get(question.session_id, question.user_id)
            model = model or row.model
            await self._fold(state)
            system = state.system
        model = model or self._llm.default_model
        messages = (*messages_for(state, model, system or self._default_system), UserMessage(question.message))
        most = min(question.max_completion_tokens or self._max_completion_tokens, self._max_completion_tokens)
        return ModelRequest(model, messages, tools=self._tools, max_completion_tokens=most)

    async def _fold(self, state: SessionState) -> None:
        more = True
        while more:
            events, more = await self._book.events(state.session_id, after=state.last_seq, limit=_PAGE)
            for event in events:
                state.apply(event)

    async def _listed(self) -> tuple[ModelInfo, ...]:
        try:
            return await self._llm.models()
        except UnavailableError:
            return ()


def likely(calls: Sequence[RecentCall], worst: Usage, question: Question, price: Price) -> Likely | None:
    """What the call will probably take, None without rows to tell it from.

    Its prompt is that of the session's last call, what was answered, and the new message; without such a call it
    is estimated by its characters.
    """
    if not calls:
        return None
    before = next((call.usage for call in calls if call.session_id == question.session_id), None)
    message = math.ceil(len(question.message) / CHARS_PER_TOKEN)
    prompt = math.ceil(worst.prompt_tokens / CHARS_PER_TOKEN) if before is None else before.total_tokens + message
    completion = math.ceil(statistics.median(call.usage.completion_tokens for call in calls))
    turns = Counter(call.turn_id for call in calls)
    usage = Usage(prompt, min(completion, worst.completion_tokens))
    return Likely(
        calls=len(calls),
        turns=len(turns),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        calls_per_turn=float(statistics.median(turns.values())),
        micros=price.of(usage),
    )


def fitting(listed: Sequence[ModelInfo], worst: Usage, gauges: Sequence[Gauge], *, but: str) -> Alternative | None:
    """The dearest listed model, but that one, whose worst case every budget has room for."""
    if any(gauge.flag is not None for gauge in gauges):
        return None
    found = [
        Alternative(info.id, micros)
        for info in listed
        if info.id != but and (micros := _worst(info, worst)) is not None
        if all(fits(gauge, micros) for gauge in gauges)
    ]
    return max(found, key=lambda one: (one.worst_micros, one.model), default=None)


def _worst(info: ModelInfo, worst: Usage) -> int | None:
    """None where the price is not known, or its context is too short."""
    if info.prompt_usd is None or info.completion_usd is None:
        return None
    if info.context_length is not None and worst.total_tokens > info.context_length:
        return None
    return Price(info.prompt_usd, info.completion_usd).of(worst)
