"""The read side of approvals: what people are asked, and what they decided. Every look-up is of one user."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.errors import ApprovalNotFound
from ..core.events import ApprovalExpired, ApprovalRequested, ApprovalResolved
from ..store.database import Database
from .payloads import Payloads
from .tables import APPROVALS

ApprovalStatus: TypeAlias = Literal["pending", "approved", "denied", "expired", "cancelled"]


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """A tool call for which a person is asked. `cancelled`: its turn ended before anybody decided."""

    id: str
    session_id: str
    turn_id: str
    status: ApprovalStatus
    created_at: datetime
    resolved_at: datetime | None
    request: ApprovalRequested
    resolution: ApprovalResolved | ApprovalExpired | None


class ApprovalBook:
    """Queries over the table of approvals."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._payloads = payloads

    async def get(self, approval_id: str, user_id: str) -> ApprovalRow:
        """Raises `ApprovalNotFound`."""
        query = sa.select(APPROVALS).where(APPROVALS.c.id == approval_id, APPROVALS.c.user_id == user_id)
        row = await self._database.read(lambda c: c.execute(query).one_or_none())
        if row is None:
            raise ApprovalNotFound(approval_id=approval_id)
        return self._row(row)

    async def page(
        self,
        user_id: str,
        *,
        limit: int,
        after: str | None,
        session_id: str | None = None,
        status: ApprovalStatus | None = None,
    ) -> tuple[tuple[ApprovalRow, ...], bool]:
        """Newest first, older than the approval `after`; and whether there are more. Raises `ApprovalNotFound`."""

        def work(connection: Connection) -> tuple[list[Any], bool]:
            query = sa.select(APPROVALS).where(APPROVALS.c.user_id == user_id)
            if session_id is not None:
                query = query.where(APPROVALS.c.session_id == session_id)
            if status is not None:
                query = query.where(APPROVALS.c.status == status)
            if after is not None:
                cursor = connection.execute(
                    sa.select(APPROVALS.c.created_at).where(APPROVALS.c.id == after, APPROVALS.c.user_id == user_id)
                ).scalar()
                if cursor is None:
                    raise ApprovalNotFound(f"the cursor {after!r} is no approval of yours", approval_id=after)
                older = APPROVALS.c.created_at < cursor
                query = query.where(sa.or_(older, sa.and_(APPROVALS.c.created_at == cursor, APPROVALS.c.id < after)))
            query = query.order_by(APPROVALS.c.created_at.desc(), APPROVALS.c.id.desc()).limit(limit + 1)
            rows = list(connection.execute(query))
            return rows[:limit], len(rows) > limit

        rows, more = await self._database.read(work)
        return tuple(self._row(row) for row in rows), more

    def _row(self, row: Any) -> ApprovalRow:
        request = self._payloads.approval(row.request, approval_id=row.id, part="request", user_id=row.user_id)
        assert isinstance(request, ApprovalRequested)
        resolution = None
        if row.resolution is not None:
            body = self._payloads.approval(row.resolution, approval_id=row.id, part="resolution", user_id=row.user_id)
            assert isinstance(body, ApprovalResolved | ApprovalExpired)
            resolution = body
        return ApprovalRow(
            row.id, row.session_id, row.turn_id, row.status, row.created_at, row.resolved_at, request, resolution
        )
