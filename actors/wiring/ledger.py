"""Which ledger stands behind the budgets, and what it is told to watch."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.alerts import Watch
from ..ledger.base import Ledger, Window
from ..ledger.budget import Budgets, UserLimits
from ..ledger.payer import SharedLimits
from ..ledger.sql import SqlLedger
from ..ledger.thresholds import Thresholds
from ..store.database import Database

_HOLD_MARGIN_S = 60.0


@asynccontextmanager
async def open_ledger(settings: Settings, database: Database, clock: Clock) -> AsyncGenerator[Ledger]:
    book = SqlLedger(database, watch(settings, clock))
    if settings.budget_redis_url is None:
        yield book
        return
    # The client takes a tenth of a second to load, and is not needed where SQL admits.
    from ..ledger.redis import RedisLedger  # noqa: PLC0415  as said above

    ledger = RedisLedger(settings.budget_redis_url, book, clock=clock)
    try:
        yield ledger
    finally:
        await ledger.aclose()


@asynccontextmanager
async def open_budgets(settings: Settings, database: Database, clock: Clock) -> AsyncGenerator[Budgets]:
    async with open_ledger(settings, database, clock) as ledger:
        longest_s = max(2 * settings.llm_total_s, settings.sandbox_command_s)
        hold_s = longest_s + _HOLD_MARGIN_S
        yield Budgets(ledger, user_limits(settings), clock=clock, hold_s=hold_s, shared=shared_limits(settings))


def watch(settings: Settings, clock: Clock) -> Watch:
    limits = user_limits(settings)
    windows: dict[Window, int | None] = {"hour": limits.hour, "day": limits.day, "month": limits.month}
    return Watch(Thresholds.of(settings.budget_thresholds, windows), clock)


def user_limits(settings: Settings) -> UserLimits:
    return UserLimits(
        hour=settings.budget_user_hour_micros or None,
        day=settings.budget_user_day_micros or None,
        month=settings.budget_user_month_micros or None,
    )


def shared_limits(settings: Settings) -> SharedLimits:
    return SharedLimits(
        key_day=settings.budget_key_day_micros or None,
        key_month=settings.budget_key_month_micros or None,
        org_day=settings.budget_org_day_micros or None,
        org_month=settings.budget_org_month_micros or None,
    )
