"""A cost report as people read it: sums, tools, budgets and advice, of one user or of all."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from ..core.clock import Clock
from ..core.errors import UnavailableError
from ..ledger.costs import CostBook, GroupBy
from ..ledger.gauges import Gauge, Gauges
from ..ledger.model_uses import ModelUses
from ..ledger.periods import Period, Span, span_of
from ..ledger.sums import Costs
from ..llm.base import LLM, ModelInfo
from .advice import Advice, advise
from .estimates import Estimates
from .tool_uses import ToolBook, ToolUses

_LIST_S = 3.0
"""Time for the price list; without it nothing is advised that needs one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which report: `user_id` None is of everybody. `limit` groups are told by name."""

    user_id: str | None
    period: Period = "daily"
    group_by: GroupBy = "model"
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    advice: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """`gauges` are those of the one user, if it is one. By tool, `tools` says how they were used, by the journal, and
    `paid` what they cost, by the ledger; `costs` are those of models then.
    """

    asked: Asked
    costs: Costs
    tools: ToolUses | None
    paid: Costs | None
    gauges: tuple[Gauge, ...]
    advice: tuple[Advice, ...]

    @property
    def span(self) -> Span:
        return self.costs.span


@dataclass(frozen=True, slots=True)
class CostReports:
    """Reads the books. Belongs to whoever shows them: an HTTP replica, or the command line."""

    book: CostBook
    tools: ToolBook
    uses: ModelUses
    gauges: Gauges
    estimates: Estimates
    llm: LLM
    clock: Clock

    async def report(self, asked: Asked) -> Report:
        """Raises `InvalidInput` for times that make no report, `StoreUnavailable`, `LedgerUnavailable`."""
        span = span_of(asked.period, self.clock.now(), since=asked.since, until=asked.until)
        by_tool = asked.group_by == "tool"
        by: GroupBy = "model" if by_tool else asked.group_by
        costs = await self.book.report(span, by, user_id=asked.user_id, limit=asked.limit)
        is_wanted = asked.advice or by_tool
        tools = await self.tools.report(span, user_id=asked.user_id) if is_wanted else ToolUses()
        return Report(
            asked,
            costs,
            tools if by_tool else None,
            await self.book.report(span, "tool", user_id=asked.user_id, limit=asked.limit) if by_tool else None,
            () if asked.user_id is None else await self.gauges.of(asked.user_id),
            await self._advice(span, asked.user_id, tools) if asked.advice else (),
        )

    async def _advice(self, span: Span, user_id: str | None, tools: ToolUses) -> tuple[Advice, ...]:
        return advise(await self.uses.report(span, user_id=user_id), tools, await self._listed())

    async def _listed(self) -> tuple[ModelInfo, ...]:
        try:
            async with asyncio.timeout(_LIST_S):
                return await self.llm.models()
        except (UnavailableError, TimeoutError):
            return ()
