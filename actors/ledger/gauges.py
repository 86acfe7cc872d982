"""How full a user's budgets are now."""

from dataclasses import dataclass
from datetime import datetime

from ..core.clock import Clock
from .base import Accounts, Flag, Window, window_end
from .budget import UserLimits, suspended


@dataclass(frozen=True, slots=True)
class Gauge:
    """A budget of this moment, in micro-dollars; `limit` None is none, `resets_at` None is never."""

    scope: str
    window: Window
    spent: int
    reserved: int
    limit: int | None
    flag: Flag | None
    resets_at: datetime | None

    @property
    def left(self) -> int | None:
        """What may still be held; None where there is no limit."""
        return None if self.limit is None else max(0, self.limit - self.spent - self.reserved)


class Gauges:
    """Reads budgets and changes none."""

    def __init__(self, accounts: Accounts, limits: UserLimits, clock: Clock) -> None:
        self._accounts = accounts
        self._limits = limits
        self._clock = clock

    async def check(self, user_id: str) -> None:
        """Raises `AccountSuspended` for a user who is; `LedgerUnavailable`."""
        if any(gauge.flag == "suspended" for gauge in await self.of(user_id)):
            raise suspended("user")

    async def of(self, user_id: str) -> tuple[Gauge, ...]:
        """The user's own budgets, the shortest window first. Raises `LedgerUnavailable`."""
        now = self._clock.now()
        scopes = self._limits.of_user(user_id)
        buckets = [scope.bucket(now) for scope in scopes]
        found = await self._accounts.balances(bucket.name for bucket in buckets)
        return tuple(
            Gauge(scope.kind, scope.window, one.spent, one.reserved, scope.limit_micros, one.flag, window_end(b.name))
            for scope, b, one in zip(scopes, buckets, (found[b.name] for b in buckets), strict=True)
        )
