"""Which ledger stands behind the budgets, and who clears up in it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.alerts import Watch
from ..ledger.base import Ledger, Window
from ..ledger.budget import Budgets, UserLimits
from ..ledger.reaper import Reaper
from ..ledger.sql import SqlLedger
from ..ledger.thresholds import Thresholds
from ..store.database import Database
from .store import open_database

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
        yield Budgets(ledger, user_limits(settings), clock=clock, hold_s=2 * settings.llm_total_s + _HOLD_MARGIN_S)


@asynccontextmanager
async def open_reaper(settings: Settings, clock: Clock) -> AsyncGenerator[Reaper]:
    async with open_database(settings) as database, open_ledger(settings, database, clock) as ledger:
        yield Reaper(ledger, database, clock=clock)


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
