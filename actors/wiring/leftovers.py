"""Who drops what deleted sessions left in the object store."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..agent.leftovers import Leftovers
from ..core.clock import Clock
from ..core.settings import Settings
from .objects import snapshots
from .store import open_database


@asynccontextmanager
async def open_leftovers(settings: Settings, clock: Clock) -> AsyncGenerator[Leftovers]:
    async with open_database(settings) as database:
        yield Leftovers(database, lambda: snapshots(settings, clock), clock=clock)
