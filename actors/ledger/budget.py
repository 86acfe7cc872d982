"""Budgets as callers meet them: whose buckets, and how a refusal is worded."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..core import telemetry
from ..core.clock import Clock, rfc3339
from ..core.errors import AccountSuspended, BudgetExceeded
from ..core.money import format_usd
from .base import Accounts, Admission, Balance, Bucket, Denied, Hold, Ledger, Scope, Wanted, window_end, window_of
from .lines import Lines
from .payer import SharedLimits
from .rules import judge


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What a user may spend in each window, in micro-dollars; None is no limit."""

    hour: int | None = None
    day: int | None = None
    month: int | None = None

    def of_user(self, user_id: str) -> tuple[Scope, ...]:
        """A user's own, the shortest window first. The last is without a window, and counts without a limit.

        A flag in that is on the user, in whatever window.
        """
        return (
            Scope("user", user_id, "hour", self.hour),
            Scope("user", user_id, "day", self.day),
            Scope("user", user_id, "month", self.month),
            Scope("user", user_id),
        )

    def scopes(self, user_id: str, session_id: str) -> tuple[Scope, ...]:
        """Those of an attempt in a session. The session's own counts without a limit."""
        return (*self.of_user(user_id), Scope("session", session_id))


class Budgets:
    """The one gate of everything that is paid."""

    def __init__(
        self,
        ledger: Ledger,
        limits: UserLimits,
        *,
        clock: Clock,
        hold_s: float,
        jitter: Callable[[], float] = random.random,
        shared: SharedLimits | None = None,
    ) -> None:
        """`hold_s` is how long an attempt may be under way before it is given up.

        `shared` are the limits of keys and organisations.
        """
        self._shared = shared or SharedLimits()
        self._lines = Lines(ledger, clock=clock, jitter=jitter)
        self.ledger: Admission = self._lines
        self.accounts: Accounts = ledger
        self._limits = limits
        self._clock = clock
        self._hold = timedelta(seconds=hold_s)

    async def reserve(
        self, attempt_id: str, user_id: str, session_id: str, *, amount: int, least: int, dear: bool = False
    ) -> Hold:
        """A hold of `amount`, or of what there is room for, but of `least`; waits in line for it (`lines.py`).

        `dear` says that the table of `expensive.py` names it, so that a paused budget refuses it.

        Raises `BudgetExceeded`, `AccountSuspended`, `LedgerUnavailable`.
        """
        now = self._clock.now()
        wanted = Wanted(attempt_id, amount, least, self._buckets(user_id, session_id, now), now + self._hold, dear)
        made = await self._lines.reserve(wanted)
        if isinstance(made, Denied):
            raise refusal(made)
        return made

    async def dispatch(self, hold: Hold) -> None:
        """The attempt is about to be sent. Raises as `reserve` does; then it must not be."""
        if (denied := await self.ledger.dispatch(hold)) is not None:
            raise refusal(denied)

    async def check(self, user_id: str, session_id: str, *, amount: int, dear: bool = False) -> None:
        """Raises as `reserve` does where a reservation of `amount` could not pass, however long it waited."""
        buckets = self._buckets(user_id, session_id, self._clock.now())
        found = await self.accounts.balances(bucket.name for bucket in buckets)
        spent = {name: Balance(one.spent, 0, one.flag) for name, one in found.items()}
        verdict = judge(Wanted("", amount, amount, buckets, self._clock.now(), dear), spent)
        for bucket in buckets:
            if bucket.limit_micros is not None and bucket.name.startswith("user:"):
                left = max(0.0, 1 - spent[bucket.name].spent / bucket.limit_micros)
                telemetry.BUDGET_REMAINING.labels(window_of(bucket.name)[1]).observe(left)
        if isinstance(verdict, Denied):
            raise refusal(verdict)

    async def is_paused(self, user_id: str, session_id: str) -> bool:
        """What is dear is refused now. Raises `LedgerUnavailable`."""
        buckets = self._buckets(user_id, session_id, self._clock.now())
        found = await self.accounts.balances(bucket.name for bucket in buckets)
        return any(balance.flag is not None for balance in found.values())

    def _buckets(self, user_id: str, session_id: str, now: datetime) -> tuple[Bucket, ...]:
        scopes = (*self._limits.scopes(user_id, session_id), *self._shared.scopes())
        return tuple(scope.bucket(now) for scope in scopes)


def refusal(denied: Denied) -> BudgetExceeded | AccountSuspended:
    """The error for a reservation that did not pass."""
    scope, window = window_of(denied.bucket)
    if denied.flag == "suspended":
        return suspended(scope)
    details: dict[str, Any] = {"scope": scope, "window": window}
    if denied.limit >= 0:
        details["limit_micros"] = denied.limit
    details |= {"spent_micros": denied.spent, "reserved_micros": denied.reserved}
    resets = window_end(denied.bucket)
    if resets is not None:
        details["resets_at"] = rfc3339(resets)
    if denied.flag == "paused":
        until = "" if resets is None else f" until {rfc3339(resets)}"
        said = (
            f"the budget of this {scope} is paused for what is expensive{until}; spent are {format_usd(denied.spent)}"
        )
        return BudgetExceeded(said, **details, flag="paused", what_to_do=_PAUSED)
    details["what_to_do"] = _USED_UP if resets is None else _USED_UP_FOR_NOW
    of = "in all" if resets is None else f"for this {window}, which ends at {rfc3339(resets)}"
    return BudgetExceeded(
        f"the budget of this {scope} is {format_usd(denied.limit)} {of}; spent are {format_usd(denied.spent)}"
        f" and reserved {format_usd(denied.reserved)}",
        **details,
    )


def suspended(scope: str) -> AccountSuspended:
    return AccountSuspended(scope=scope, what_to_do=_SUSPENDED)


_SUSPENDED = "Ask an operator to resume the account. Reading, exporting and deleting work meanwhile."
_PAUSED = "Use a cheaper model until the window ends, or ask an operator to resume the budget."
_USED_UP = "Ask an operator for a higher limit."
_USED_UP_FOR_NOW = "Wait for the next window, ask for a shorter answer, or ask an operator for a higher limit."
