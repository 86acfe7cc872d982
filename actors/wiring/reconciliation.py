"""The model server's own meter beside our ledger."""

from ..core.clock import Clock
from ..core.settings import Settings
from ..ledger.drift import Reconciliation
from ..llm.base import KeyUsage
from ..store.database import Database
from .models import open_records


def reconciliation(settings: Settings, database: Database, clock: Clock) -> Reconciliation:
    """One that asks a server anew in each round: it keeps no connection for an hour."""

    async def meter() -> KeyUsage | None:
        async with open_records(settings, clock) as one:
            return None if one is None else await one.key_usage()

    return Reconciliation(meter, database, clock=clock, limit_usd=settings.budget_drift_usd)
