"""The model server's own meter beside our ledger."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.drift import Reconciliation
from ..llm.base import KeyUsage
from .models import open_key_meter
from .store import open_database


@asynccontextmanager
async def open_reconciliation(settings: Settings, clock: Clock) -> AsyncGenerator[Reconciliation]:
    """One that asks a server anew in each round: it keeps no connection for an hour."""

    async def meter() -> KeyUsage | None:
        async with open_key_meter(settings, clock) as one:
            return None if one is None else await one.key_usage()

    async with open_database(settings) as database:
        yield Reconciliation(meter, database, clock=clock, limit_usd=settings.budget_drift_usd)
