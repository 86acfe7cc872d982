"""What time asks for in sessions that nobody uses: approvals that run out, events that are too old."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from ..core.clock import Clock
from ..core.errors import GreenroomError
from .journal import Journal

DUE_AT_ONCE = 100
TRIMMED_AT_ONCE = 100
TRIM_EVERY_S = 600.0


class Upkeep:
    """Belongs to the directory's process: one for the cluster. `wake` brings a session into memory somewhere."""

    def __init__(
        self,
        journal: Journal,
        wake: Callable[[str], Awaitable[None]],
        *,
        clock: Clock,
        retention_days: float | None,
    ) -> None:
        self._journal = journal
        self._wake = wake
        self._clock = clock
        self._retention = None if retention_days is None else timedelta(days=retention_days)
        self._trim_next = clock.monotonic()
        self._logger = structlog.get_logger("greenroom.upkeep")

    async def round(self) -> None:
        """One round of care. Raises `StoreUnavailable`."""
        for session_id in await self._journal.due(self._clock.now(), limit=DUE_AT_ONCE):
            try:
                await self._wake(session_id)
            except GreenroomError as error:
                self._logger.warning("approval not expired", session_id=session_id, error=error.message)
        await self._trim()

    async def _trim(self) -> None:
        if self._retention is None or self._clock.monotonic() < self._trim_next:
            return
        trimmed = await self._journal.trim(self._clock.now() - self._retention, limit=TRIMMED_AT_ONCE)
        if trimmed:
            self._logger.info("histories trimmed", sessions=trimmed)
        if trimmed < TRIMMED_AT_ONCE:  # else there is more: go on in the next round
            self._trim_next = self._clock.monotonic() + TRIM_EVERY_S
