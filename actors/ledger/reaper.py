"""Holds of which nothing is heard any more: their process died, or could not reach the ledger at the end.

What the attempt cost may be known all the same: its row in the book of attempts is written with the session's
events. Only where that says nothing the whole hold is charged; where it says a price that the server may still
correct (`truths.py`), that is charged until then.
"""

from collections.abc import Callable

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from ..core.clock import Clock
from ..core.errors import HoldConflict
from ..store.database import Database
from .base import Hold, Ledger
from .book import ATTEMPTS

AT_ONCE = 100

_COST = sa.select(ATTEMPTS.c.cost_micros, ATTEMPTS.c.look_at).where(ATTEMPTS.c.id == sa.bindparam("attempt"))


class Reaper:
    """Belongs to the directory's process: one for the cluster. Two would do no harm."""

    def __init__(self, ledger: Ledger, database: Database, *, clock: Clock) -> None:
        self._ledger = ledger
        self._database = database
        self._clock = clock
        self._logger = structlog.get_logger("greenroom.ledger")

    async def round(self) -> int:
        """End what is overdue; how many it was. Raises `LedgerUnavailable`, `StoreUnavailable`."""
        overdue = await self._ledger.overdue(self._clock.now(), limit=AT_ONCE)
        for hold in overdue:
            cost, is_final = await self._database.read(_cost_of(hold))
            try:
                if cost is not None and is_final:
                    after = await self._ledger.settle(hold, cost)
                else:
                    after = await self._ledger.expire(hold, estimate=cost)
            except HoldConflict as error:  # ended in this very moment
                self._logger.warning("hold not ended", attempt_id=hold.attempt_id, error=error.message)
                continue
            self._logger.info("hold ended", attempt_id=hold.attempt_id, state=after.state, micros=after.charged)
        return len(overdue)


def _cost_of(hold: Hold) -> Callable[[Connection], tuple[int | None, bool]]:
    """What the book says, and whether that is the last word."""

    def work(connection: Connection) -> tuple[int | None, bool]:
        row = connection.execute(_COST, {"attempt": hold.attempt_id}).one_or_none()
        return (None, True) if row is None else (row.cost_micros, row.look_at is None)

    return work
