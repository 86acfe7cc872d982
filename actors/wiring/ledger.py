"""Which ledger stands behind the budgets, and who clears up in it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.alerts import Watch
from ..ledger.base import Ledger, Window
from ..ledger.budget import Budgets, UserLimits
from ..ledger.payer import SharedLimits
from ..ledger.reaper import Reaper
from ..ledger.sql import SqlLedger
from ..ledger.thresholds import Thresholds
from ..ledger.truths import LateTruths
from ..store.database import Database
from .models import open_generations
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
        longest_s = max(2 * settings.llm_total_s, settings.sandbox_command_s)
        hold_s = longest_s + _HOLD_MARGIN_S
        yield Budgets(ledger, user_limits(settings), clock=clock, hold_s=hold_s, shared=shared_limits(settings))


@asynccontextmanager
async def open_reaper(settings: Settings, clock: Clock) -> AsyncGenerator[Reaper]:
    async with open_database(settings) as database, open_ledger(settings, database, clock) as ledger:
        yield Reaper(ledger, database, clock=clock)


@asynccontextmanager
async def open_truths(settings: Settings, clock: Clock) -> AsyncGenerator[LateTruths]:
    async with (
        open_database(settings) as database,
        open_ledger(settings, database, clock) as ledger,
        open_generations(settings, clock) as generations,
    ):
        yield LateTruths(ledger, database, generations, clock=clock)


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
