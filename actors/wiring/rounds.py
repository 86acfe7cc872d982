"""What the directory's process does again and again with the books: they share one database and one ledger."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import httpx

from ..agent.leftovers import Leftovers
from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.reaper import Reaper
from ..ledger.truths import LateTruths
from .alerts import alert_rounds
from .ledger import open_ledger
from .models import open_records
from .objects import snapshots
from .reconciliation import reconciliation
from .store import open_database

TEND_S = 1.0
SWEEP_S = 60.0
RECONCILE_S = 3600.0

Rounds: TypeAlias = dict[str, tuple[Callable[[], Awaitable[object]], float]]
"""By name: what is done, and the seconds of rest after it."""


@asynccontextmanager
async def open_rounds(settings: Settings, clock: Clock) -> AsyncGenerator[Rounds]:
    async with (
        open_database(settings) as database,
        open_ledger(settings, database, clock) as ledger,
        open_records(settings, clock) as records,
        httpx.AsyncClient() as client,
    ):
        alerts = alert_rounds(settings, ledger, database, client, clock)
        leftovers = Leftovers(database, lambda: snapshots(settings, clock), clock=clock)
        yield {
            "ledger": (Reaper(ledger, database, clock=clock).round, TEND_S),
            "late costs": (LateTruths(ledger, database, records, clock=clock).round, TEND_S),
            **{name: (one, TEND_S) for name, one in alerts.items()},
            "reconciliation": (reconciliation(settings, database, clock).round, RECONCILE_S),
            "leftovers": (leftovers.round, SWEEP_S),
        }
