"""Our ledger against the model server's own meter of the credential: what both say of this day and this month, UTC."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from ..core import telemetry
from ..core.clock import Clock
from ..core.money import MICROS_PER_USD
from ..llm.base import KeyUsage
from ..store.database import Database
from .book import ATTEMPTS
from .tables import HOLDS

# What a hold was charged is what budgets count; an attempt that was free, or had no budget, has no hold.
_CHARGED = (
    sa.select(sa.func.sum(sa.func.coalesce(HOLDS.c.charged, ATTEMPTS.c.cost_micros, 0)))
    .select_from(ATTEMPTS.outerjoin(HOLDS, HOLDS.c.attempt_id == ATTEMPTS.c.id))
    .where(ATTEMPTS.c.kind == "model", ATTEMPTS.c.started_at >= sa.bindparam("since", type_=ATTEMPTS.c.started_at.type))
)


class Reconciliation:
    """Belongs to the directory's process: one for the cluster. It changes nothing."""

    def __init__(
        self, meter: Callable[[], Awaitable[KeyUsage | None]], database: Database, *, clock: Clock, limit_usd: Decimal
    ) -> None:
        """`meter` is the server's; None from it: it keeps none. Beyond `limit_usd` a day's difference is logged."""
        self._meter = meter
        self._database = database
        self._clock = clock
        self._limit_usd = limit_usd
        self._logger = structlog.get_logger("greenroom.ledger")

    async def round(self) -> None:
        """Compare. Raises `ModelUnavailable`, `StoreUnavailable`."""
        day = self._clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        usage = await self._meter()
        if usage is None or self._clock.now().date() != day.date():  # midnight: theirs may be of the other day
            return
        drift_usd = await self._compare("day", usage.day_usd, day)
        await self._compare("month", usage.month_usd, day.replace(day=1))
        if drift_usd is not None and abs(drift_usd) > self._limit_usd:
            self._logger.warning(
                "ledger differs from the model server's meter",
                drift_usd=str(drift_usd),
                metered_usd=str(usage.day_usd),
                day=f"{day:%Y-%m-%d}",
            )

    async def _compare(self, window: str, metered_usd: Decimal | None, since: datetime) -> Decimal | None:
        if metered_usd is None:  # not told, which is not 0, and not what the key has used in all its life
            return None
        ours = Decimal(await self._database.read(lambda c: _charged(c, since))) / MICROS_PER_USD
        telemetry.COST_DRIFT_DOLLARS.labels(window).set(float(metered_usd - ours))
        return metered_usd - ours


def _charged(connection: Connection, since: datetime) -> int:
    return int(connection.execute(_CHARGED, {"since": since}).scalar() or 0)
