"""Tools through the ledger: a row for each call, and a hold where it costs something.

The row is written in the transaction of `tool.started`, and completed in that of the tool's end. A process that dies
in between leaves it `dispatched`; whoever takes the turn over closes it as lost, and the reaper charges its hold. Code
in a sandbox is a row of kind `sandbox`, every other tool one of kind `tool`, and what embeds a text has a second one.
What is free has no hold, asks no budget, and is told by no event: nothing of it slows a turn.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import AccountSuspended, BudgetExceeded, LedgerUnavailable
from ..core.events import CostSource, PaidKind, UsageUpdated
from ..core.messages import ToolCall
from ..ledger.book import AttemptClosed, AttemptOpened
from ..memory.base import E5
from ..tools.base import OUTCOME_UNKNOWN, ToolResult
from ..tools.toolbox import Toolbox
from .log import SessionLog
from .reactions import event_of
from .spending import Paid, Spending
from .tariff import Tariff
from .turn_state import TurnState

_REFUSALS = (BudgetExceeded, AccountSuspended, LedgerUnavailable)

_NOT_RUN = frozenset({"unknown_tool", "invalid_arguments", "unavailable", "policy"})
"""Errors of calls of which nothing was done."""

_NOT_ENDED = frozenset({"timeout", "crashed", OUTCOME_UNKNOWN})
"""Errors of calls of which no sandbox said how long they took."""


@dataclass(slots=True)
class Use:
    """One thing that a call is paid by, while the call is under way."""

    id: str
    kind: PaidKind
    name: str
    timeout_s: float
    at_most: int
    """In micro-dollars."""
    began: float | None = None
    """When it was let through, by the monotonic clock."""
    paid: Paid | None = None


class Meters:
    """Holds and rows of tool calls. One for a process; without `spending` no budget is kept."""

    def __init__(self, toolbox: Toolbox, tariff: Tariff, *, spending: Spending | None, clock: Clock) -> None:
        self._toolbox = toolbox
        self._tariff = tariff
        self._spending = spending
        self._clock = clock

    def open(self, log: SessionLog, turn: TurnState, call: ToolCall, *, timeout_s: float) -> tuple[Use, ...]:
        """Stage the rows of a call that is about to run."""
        uses = self._uses(turn, call, timeout_s)
        state, now = log.state, self._clock.now()
        for use in uses:
            log.stage_attempt(
                AttemptOpened(use.id, turn.id, state.session_id, state.user_id, "", now, use.kind, use.name)
            )
        return uses

    async def refused(self, uses: tuple[Use, ...], log: SessionLog) -> ToolResult | None:
        """Hold what the call may cost. Where that is refused: what the model is told instead of running it."""
        try:
            if self._spending is not None:
                for use in uses:
                    if use.at_most:
                        state = log.state
                        use.paid = await self._spending.hold(use.id, state.user_id, state.session_id, use.at_most)
                        await self._spending.dispatch(use.paid)
        except _REFUSALS as error:
            return ToolResult(f"It was not run: {error.message}\nTell the user this.", error=error.code)
        for use in uses:
            use.began = self._clock.monotonic()
        return None

    async def close(self, uses: tuple[Use, ...], log: SessionLog, turn: TurnState, result: ToolResult | None) -> None:
        """Stage how a call ended, and settle what it cost. None: it was cut off."""
        ended = [(use, self._closed(use, result)) for use in uses]
        for use, closed in ended:  # all of them before anything is awaited, so that one transaction has them
            _account(log, turn, use, closed)
            telemetry.COST_DOLLARS.labels("", use.kind).inc(closed.spent.cost_micros / 1_000_000)
        for use, closed in ended:
            if self._spending is not None and use.paid is not None:
                for alert in await self._spending.close(use.paid, closed):
                    log.stage(event_of(alert), turn.id)

    def lose(self, log: SessionLog, turn: TurnState, call: ToolCall) -> None:
        """At recovery: nobody knows what a call cost that was running when its process died."""
        for use in self._uses(turn, call, self._tariff.command_s):
            cost, source = (Decimal(0), "free") if use.at_most == 0 else (None, "unknown")
            _account(
                log, turn, use, AttemptClosed(use.id, "lost", self._clock.now(), cost_usd=cost, cost_source=source)
            )

    def _uses(self, turn: TurnState, call: ToolCall, timeout_s: float) -> tuple[Use, ...]:
        meter = self._toolbox.meter(call.name)
        name = call.name if meter is not None else "unknown"
        kinds: list[tuple[PaidKind, str]] = [("sandbox" if meter == "sandbox" else "tool", name)]
        if meter == "embedding":
            kinds.append(("embedding", E5))
        return tuple(
            Use(_id(turn, call, kind), kind, name, timeout_s, self._tariff.at_most(kind, name, timeout_s))
            for kind, name in kinds
        )

    def _closed(self, use: Use, result: ToolResult | None) -> AttemptClosed:
        outcome = "cancelled" if result is None else result.error or "ok"
        run = use.began is not None and outcome not in _NOT_RUN
        seconds = self._seconds(use, result) if run else 0.0
        cost = self._tariff.cost(use.kind, use.name, seconds) if run else Decimal(0)
        source: CostSource = "price_list" if cost else "free"
        now = self._clock.now()
        return AttemptClosed(use.id, outcome, now, cost_usd=cost, cost_source=source, seconds=round(seconds, 6))

    def _seconds(self, use: Use, result: ToolResult | None) -> float:
        assert use.began is not None
        elapsed = max(0.0, self._clock.monotonic() - use.began)
        if use.kind != "sandbox":
            return elapsed
        if result is None or result.error in _NOT_ENDED:
            return self._tariff.longest(min(elapsed, use.timeout_s))
        taken = result.data.get("cpu_s") if self._tariff.by_cpu else None
        return float(taken if taken is not None else result.data.get("wall_s", 0.0))


def _account(log: SessionLog, turn: TurnState, use: Use, closed: AttemptClosed) -> None:
    log.stage_attempt(closed)
    spent = closed.spent
    if spent.cost_micros or not spent.cost_known:
        total = log.state.spent + spent
        log.stage(
            UsageUpdated(closed.id, "", spent, total, cost_source=closed.cost_source, kind=use.kind, name=use.name),
            turn.id,
        )


def _id(turn: TurnState, call: ToolCall, kind: PaidKind) -> str:
    """Made of what the journal has, so that whoever takes the turn over can name the row. Calls have ids of their own
    within a session."""
    return "use_" + hashlib.sha256(f"{turn.id}\0{call.id}\0{kind}".encode("utf-8", "replace")).hexdigest()[:32]
