"""What attempts cost whose answer broke off: the server is asked afterwards, until it tells.

Driven by rows of the book of attempts, so a process that dies loses nothing. An attempt that the server gave no name,
because the connection broke before the headers, cannot be asked for: it stays charged at its hold.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import HoldConflict, ModelUnavailable, UnavailableError
from ..core.messages import Usage
from ..core.money import MICROS_PER_USD, to_micros
from ..core.text import storable
from ..llm.base import GenerationRecord, Generations
from ..store.database import Database
from .base import Ledger
from .book import ATTEMPTS, fitted
from .corrections import CORRECTIONS

AT_ONCE = 200
"""Attempts of one round."""

LOOK_UPS_AT_ONCE = 8

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(hours=1)
"""An attempt is looked up again when it has become twice as old, within these bounds."""

GIVE_UP = timedelta(days=7)
"""A record that is not there by then never will be: what is charged stays."""

_DUE = (
    sa.select(ATTEMPTS.c.id, ATTEMPTS.c.generation_id, ATTEMPTS.c.finished_at)
    .where(ATTEMPTS.c.look_at <= sa.bindparam("now", type_=ATTEMPTS.c.look_at.type))
    .order_by(ATTEMPTS.c.look_at, ATTEMPTS.c.id)
    .limit(AT_ONCE)
)
_LOCKED = sa.select(ATTEMPTS).where(ATTEMPTS.c.id == sa.bindparam("attempt")).with_for_update()
_CHANGE = sa.update(ATTEMPTS).where(ATTEMPTS.c.id == sa.bindparam("attempt"))


@dataclass(frozen=True, slots=True)
class _Open:
    """An attempt whose cost is looked for."""

    id: str
    generation_id: str
    finished_at: datetime


class LateTruths:
    """Belongs to the directory's process, beside the reaper: one for the cluster. Two would do no harm."""

    def __init__(self, ledger: Ledger, database: Database, generations: Generations | None, *, clock: Clock) -> None:
        """Without `generations`, where the server keeps no records, nothing is looked for."""
        self._ledger = ledger
        self._database = database
        self._generations = generations
        self._clock = clock
        self._free = asyncio.Semaphore(LOOK_UPS_AT_ONCE)
        self._logger = structlog.get_logger("greenroom.ledger")

    async def round(self) -> int:
        """Look for what is due; how many it was. What fails is done again. Raises `StoreUnavailable`."""
        now = self._clock.now()
        if self._generations is None:
            no_longer = sa.update(ATTEMPTS).where(ATTEMPTS.c.look_at <= now).values(look_at=None)
            await self._database.write(lambda c: c.execute(no_longer))
            return 0
        rows = await self._database.read(lambda c: c.execute(_DUE, {"now": now}).all())
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(self._look(_Open(*row), self._generations))
        return len(rows)

    async def _look(self, attempt: _Open, generations: Generations) -> None:
        async with self._free:
            try:
                if not await self._found(attempt, generations):
                    await self._postpone(attempt)
            except UnavailableError as error:  # a store: the next round does this again
                self._logger.warning("late cost not written", attempt_id=attempt.id, error=error.message)

    async def _found(self, attempt: _Open, generations: Generations) -> bool:
        try:
            record = await generations.generation(attempt.generation_id, within_s=0)
        except ModelUnavailable as error:
            self._logger.warning("cost not looked up", attempt_id=attempt.id, error=error.message)
            return False
        if record is None:
            return False
        try:
            await self._settle(attempt, record)
        except HoldConflict as error:
            self._logger.warning("late cost contradicts the hold", attempt_id=attempt.id, error=error.message)
            return False
        return True

    async def _settle(self, attempt: _Open, record: GenerationRecord) -> None:
        # The hold first: what fails after it is done again, and then changes nothing here.
        hold = await self._ledger.find(attempt.id)
        if hold is not None:
            await self._ledger.settle(hold, to_micros(record.cost_usd))
        more = await self._database.write(_corrects(attempt, record, self._clock.now()))
        if more is not None:
            self._logger.info("late cost", attempt_id=attempt.id, micros=to_micros(record.cost_usd), more_micros=more)
            model = telemetry.model_label(record.model or "")
            telemetry.COST_DOLLARS.labels(model, "chat").inc(more / MICROS_PER_USD)

    async def _postpone(self, attempt: _Open) -> None:
        now = self._clock.now()
        age = now - attempt.finished_at
        look_at = None if age >= GIVE_UP else now + min(max(age, FIRST_WAIT), LONGEST_WAIT)
        if look_at is None:
            self._logger.warning("cost given up", attempt_id=attempt.id, generation_id=attempt.generation_id)
        later = _CHANGE.where(ATTEMPTS.c.look_at.is_not(None)).values(look_at=look_at)
        await self._database.write(lambda c: c.execute(later, {"attempt": attempt.id}))


def _corrects(attempt: _Open, record: GenerationRecord, now: datetime) -> Callable[[Connection], int | None]:
    """Write the truth, and how it differs from what was told: by how many micro-dollars; None if that was done."""

    def work(connection: Connection) -> int | None:
        row = connection.execute(_LOCKED, {"attempt": attempt.id}).one()
        if row.look_at is None:
            return None
        cost = to_micros(record.cost_usd)
        usage = record.usage if row.prompt_tokens is None else None  # the answer's own count stays
        truth: dict[str, Any] = {
            "state": "settled",
            "cost_micros": cost,
            "cost_exact": str(record.cost_usd),
            "cost_source": "upstream",
            "look_at": None,
        }
        names = {"model": record.model, "provider": record.provider}
        truth |= fitted({name: storable(value) for name, value in names.items() if value})
        truth |= asdict(usage) if usage else {}
        connection.execute(_CHANGE.values(**truth), {"attempt": attempt.id})
        more = cost - (row.cost_micros or 0)
        correction = {
            "attempt_id": attempt.id,
            "session_id": row.session_id,
            "cost_micros": more,
            "cost_was_known": row.cost_micros is not None,
            "created_at": now,
            **asdict(usage or Usage()),
        }
        connection.execute(sa.insert(CORRECTIONS), correction)
        return more

    return work
