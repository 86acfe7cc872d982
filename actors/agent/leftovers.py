"""What deleted sessions left in the object store, which did not answer when they were deleted: dropped when it does.

Whose turn it is stands in the session's row, so neither a process that dies nor a store that is away for days leaves
anything behind.
"""

from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa
import structlog

from ..core.clock import Clock
from ..sandbox.snapshots import Snapshots
from ..store.database import Database
from .tables import SESSIONS

AFTER = timedelta(minutes=5)
"""Until then the machine that had the sandbox tries by itself."""

AT_ONCE = 100

_SWEEP = (
    sa.update(SESSIONS)
    .where(SESSIONS.c.id == sa.bindparam("session"))
    .values(swept_at=sa.bindparam("now", type_=SESSIONS.c.swept_at.type))
)


class Leftovers:
    """Belongs to the directory's process: one for the cluster. Two would do no harm."""

    def __init__(self, database: Database, snapshots: Callable[[], Snapshots], *, clock: Clock) -> None:
        """`snapshots` is called when the first is needed: a cluster that deletes nothing opens no object store."""
        self._database = database
        self._snapshots = snapshots
        self._clock = clock
        self._logger = structlog.get_logger("greenroom.leftovers")

    async def round(self) -> int:
        """Drop what is left of some sessions; of how many. Each is done once. Raises `StoreUnavailable`."""
        now = self._clock.now()
        due = (
            sa.select(SESSIONS.c.id)
            .where(SESSIONS.c.deleted_at <= now - AFTER, SESSIONS.c.swept_at.is_(None))
            .order_by(SESSIONS.c.deleted_at, SESSIONS.c.id)
            .limit(AT_ONCE)
        )
        sessions = await self._database.read(lambda c: c.execute(due).scalars().all())
        if not sessions:
            return 0
        snapshots, swept = self._snapshots(), list[dict[str, object]]()
        try:
            for session_id in sessions:
                await snapshots.forget(session_id)
                swept.append({"session": session_id, "now": now})
        finally:
            if swept:
                await self._database.write(lambda c: c.execute(_SWEEP, swept))
        return len(swept)
