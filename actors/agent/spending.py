"""The money of a call: reserved before each attempt, settled after it; and what a paused budget lets through."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from ..core.errors import GreenroomError, LedgerUnavailable
from ..core.messages import Usage
from ..core.money import to_micros
from ..ledger.base import Hold
from ..ledger.book import AttemptClosed
from ..ledger.budget import Budgets
from ..ledger.expensive import Expensive, Operation
from ..ledger.thresholds import Alert
from ..llm.base import ModelRequest
from .prices import FREE, Price, Prices, prompt_tokens_at_most

ANSWER_TOKENS = 256
"""Where little is left, an answer may be cut to so many tokens; below that the call is refused."""

SETTLING_S = 5.0
"""What is not settled by then is left to the reaper, which finds the cost in the book of attempts."""


@dataclass(frozen=True, slots=True)
class Paid:
    """An attempt's hold, and the price that it was reckoned with."""

    hold: Hold
    price: Price


class Spending:
    """Asks the budgets on behalf of calls of models and tools. One for a process."""

    def __init__(
        self,
        budgets: Budgets,
        prices: Prices,
        *,
        expensive: Expensive,
        cheaper_model: str | None = None,
        react: Callable[[Alert], Awaitable[None]] | None = None,
        records: bool = False,
    ) -> None:
        """`cheaper_model` is asked where a paused budget refuses another; `react` is told of thresholds reached.

        `records`: the server tells afterwards what an attempt cost, so that a list price is not the last word.
        """
        self._budgets = budgets
        self._prices = prices
        self._expensive = expensive
        self._cheaper_model = cheaper_model
        self._react = react
        self._records = records
        self._settling: set[asyncio.Task[tuple[Alert, ...]]] = set()
        self._logger = structlog.get_logger("greenroom.spending")

    async def check(self, user_id: str, session_id: str, model: str) -> None:
        """Raises as `reserve` does where no call of this model could pass: then a message is not taken."""
        price = await self._prices.of(await self.choose(user_id, session_id, model))
        await self._budgets.check(user_id, session_id, amount=0 if price.is_free else 1, dear=self._is_dear(price))

    async def choose(self, user_id: str, session_id: str, model: str) -> str:
        """The model to ask: the cheaper one, if one is named, where this one is refused because of a pause."""
        if self._cheaper_model is None or model == self._cheaper_model:
            return model
        if self._is_dear(await self._prices.of(model)) and await self._budgets.is_paused(user_id, session_id):
            return self._cheaper_model
        return model

    async def run_s(self, user_id: str, session_id: str, timeout_s: float) -> float:
        """How long a program in a sandbox may run that may for `timeout_s`: less while the budget is paused.

        Where the ledger does not say, as if it were.
        """
        bound_s = float(self._expensive.bounds[Operation.RUN])
        if not self._expensive.refuses(Operation.RUN, timeout_s):
            return timeout_s
        try:
            return bound_s if await self._budgets.is_paused(user_id, session_id) else timeout_s
        except LedgerUnavailable:
            return bound_s

    def _is_dear(self, price: Price) -> bool:
        return self._expensive.refuses_model(price.prompt_usd, price.completion_usd)

    async def reserve(self, attempt_id: str, request: ModelRequest, *, first: bool) -> tuple[Paid, ModelRequest]:
        """Hold what the request may cost; where little is left, of an answer that is cut to what that buys.

        Only before the `first` attempt of a call: the further ones are sent as that was. Raises `BudgetExceeded`,
        `AccountSuspended`, `LedgerUnavailable`.
        """
        price = await self._prices.of(request.model)
        most = request.max_completion_tokens
        # Once, and not at all for what is free: it takes the whole talk apart.
        prompt = 0 if price.is_free else prompt_tokens_at_most(request)
        amount = price.of(Usage(prompt, most))
        least = price.of(Usage(prompt, min(ANSWER_TOKENS, most))) if first else amount
        user_id, session_id, dear = request.user_ref or "", request.session_ref or "", first and self._is_dear(price)
        hold = await self._budgets.reserve(attempt_id, user_id, session_id, amount=amount, least=least, dear=dear)
        if hold.amount < amount:
            request = replace(request, max_completion_tokens=price.affordable_tokens(prompt, hold.amount, most=most))
        return Paid(hold, price), request

    async def hold(self, attempt_id: str, user_id: str, session_id: str, micros: int) -> Paid:
        """Hold what something else than a model may cost. Raises as `reserve` does."""
        hold = await self._budgets.reserve(attempt_id, user_id, session_id, amount=micros, least=micros)
        return Paid(hold, FREE)

    async def dispatch(self, paid: Paid) -> None:
        """Raises as `reserve` does; then the attempt must not be sent."""
        await self._budgets.dispatch(paid.hold)

    async def close(self, paid: Paid, closed: AttemptClosed) -> tuple[Alert, ...]:
        """Settle what the attempt cost, or charge its hold for now where nobody knows. Returns thresholds it reached.

        Raises nothing of the ledger's: what does not succeed here is the reaper's. It goes on when the caller is
        cancelled.
        """
        settling = asyncio.create_task(self._close(paid, closed), name=f"settle {closed.id}")
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        return await asyncio.shield(settling)

    async def _close(self, paid: Paid, closed: AttemptClosed) -> tuple[Alert, ...]:
        cost = _cost(paid.price, closed)
        ledger = self._budgets.ledger
        waits = self._records and closed.may_be_corrected and closed.generation_id is not None
        try:
            async with asyncio.timeout(SETTLING_S):
                if cost is None or waits:
                    after = await ledger.expire(paid.hold, estimate=cost)
                else:
                    after = await ledger.settle(paid.hold, cost)
        except (GreenroomError, TimeoutError) as error:
            self._logger.warning("attempt not settled", attempt_id=closed.id, error=repr(error))
            return ()
        await self._react_to(after.crossed)
        return after.crossed

    async def _react_to(self, alerts: tuple[Alert, ...]) -> None:
        """What does not succeed here is done by the directory's process."""
        if not alerts or self._react is None:
            return
        try:
            async with asyncio.timeout(SETTLING_S):
                for alert in alerts:
                    await self._react(alert)
        except (GreenroomError, TimeoutError) as error:
            self._logger.warning("no reaction yet", alerts=[alert.id for alert in alerts], error=repr(error))


def _cost(price: Price, closed: AttemptClosed) -> int | None:
    if closed.cost_usd is not None:
        return to_micros(closed.cost_usd)
    return None if closed.usage is None else price.of(closed.usage)
