"""Who did what, and what was not let through: rows that are added and never changed.

The database itself refuses to change or delete a row (triggers of the migration). A row is written before what it
tells of is done, so that a process which dies leaves no deed without one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection

from ..store.database import METADATA, Database, Instant
from .cipher import Cipher

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("session_id", sa.String(64)),
    sa.Column("turn_id", sa.String(64)),
    sa.Column("tool_call_id", sa.String(200)),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("decision", sa.String(20), nullable=False),
    sa.Column("rule", sa.String(40)),
    sa.Column("detail", sa.LargeBinary, nullable=False),
    sa.Index("audit_by_user", "user_id", "at", "id"),
    sa.Index("audit_by_session", "session_id", "at", "id"),
)

Decision: TypeAlias = Literal["allowed", "refused", "ended"]
"""`ended` is the second row of something that was allowed: how it went."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One row. `action` is a noun and a verb, as `command.run`; `rule` names what refused it; `detail` is JSON."""

    id: str
    at: datetime
    user_id: str
    action: str
    decision: Decision
    session_id: str | None = None
    turn_id: str | None = None
    tool_call_id: str | None = None
    rule: str | None = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])


class Audit(Protocol):
    """Where records go."""

    async def write(self, record: AuditRecord) -> None:
        """Durable when this returns. Raises `StoreUnavailable`; then what it tells of must not be done."""
        ...


class SqlAudit:
    """`Audit` in the database. Details are sealed with the key of the user whom they are about."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher

    async def write(self, record: AuditRecord) -> None:
        row = {name: getattr(record, name) for name in _COLUMNS}
        row["tool_call_id"] = record.tool_call_id and record.tool_call_id[:200]
        detail = json.dumps(record.detail).encode()
        row["detail"] = self._cipher.seal(detail, owner=record.user_id, place=f"audit/{record.id}")
        await self._database.write(lambda connection: _insert(connection, row))

    async def read(self, session_id: str, *, limit: int) -> tuple[AuditRecord, ...]:
        """The records of a session, oldest first."""
        query = sa.select(AUDIT).where(AUDIT.c.session_id == session_id).order_by(AUDIT.c.at, AUDIT.c.id).limit(limit)
        rows: Sequence[Any] = await self._database.read(lambda connection: connection.execute(query).all())
        return tuple(self._record(row) for row in rows)

    def _record(self, row: Any) -> AuditRecord:
        detail = self._cipher.unseal(row.detail, owner=row.user_id, place=f"audit/{row.id}")
        return AuditRecord(**{name: getattr(row, name) for name in _COLUMNS}, detail=json.loads(detail))


_COLUMNS = ("id", "at", "user_id", "action", "decision", "session_id", "turn_id", "tool_call_id", "rule")


def _insert(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(AUDIT.insert(), [row])
