"""Audit rows of what code in sandboxes asked of the network: whose they are is known here, and not there."""

from dataclasses import asdict

import sqlalchemy as sa

from ..core.clock import Clock
from ..core.errors import SessionNotFound
from ..core.ids import NewId
from ..sandbox.egress_base import Attempt
from ..security.audit import Audit, AuditRecord
from ..store.database import Database
from .tables import SESSIONS

ACTION = "network.connect"


class ConnectionAudit:
    """`ConnectionLog` in the audit. Raises `SessionNotFound` for a session that is not there, or not any more."""

    def __init__(self, database: Database, audit: Audit, *, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._new_id = new_id

    async def record(self, session_id: str, attempt: Attempt) -> None:
        query = sa.select(SESSIONS.c.user_id).where(SESSIONS.c.id == session_id, SESSIONS.c.deleted_at.is_(None))
        user_id = await self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())
        if user_id is None:
            raise SessionNotFound(session_id=session_id)
        detail = {name: value for name, value in asdict(attempt).items() if name not in ("decision", "rule")}
        await self._audit.write(
            AuditRecord(
                id=self._new_id("aud"),
                at=self._clock.now(),
                user_id=user_id,
                action=ACTION,
                decision=attempt.decision,
                session_id=session_id,
                rule=attempt.rule,
                detail=detail,
            )
        )
