"""The audit of what sandboxes ask of the network, in a process that has a way to the stores."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..agent.connections import ConnectionAudit
from ..core.clock import SystemClock
from ..core.ids import uuid7_ids
from ..core.settings import Settings
from ..security.audit import SqlAudit
from ..security.cipher import ClearText
from .store import open_database


@asynccontextmanager
async def open_connection_audit(settings: Settings) -> AsyncGenerator[ConnectionAudit]:
    clock = SystemClock()
    async with open_database(settings) as database:
        yield ConnectionAudit(database, SqlAudit(database, ClearText()), clock=clock, new_id=uuid7_ids(clock))
