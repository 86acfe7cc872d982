"""The rows of `turns` and `approvals` that follow from events, written in the transaction that writes these."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.events import (
    TERMINAL,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    MessageAccepted,
    TurnRecovering,
    TurnResumed,
    TurnStarted,
    TurnWaiting,
)
from .payloads import Payloads
from .tables import APPROVALS, TURNS

# Statements are built once: SQLAlchemy takes longer to build one than SQLite to run it.
_INSERT_TURN = sa.insert(TURNS)
_MOVE_TURN = sa.update(TURNS).where(TURNS.c.id == sa.bindparam("turn")).values(status=sa.bindparam("new_status"))
_END_TURN = (
    sa.update(TURNS)
    .where(TURNS.c.id == sa.bindparam("turn"))
    .values(
        status=sa.bindparam("new_status"),
        finished_at=sa.bindparam("new_finished_at"),
        outcome=sa.bindparam("new_outcome"),
    )
)
_INSERT_APPROVAL = sa.insert(APPROVALS)
_END_APPROVAL = (
    sa.update(APPROVALS)
    .where(APPROVALS.c.id == sa.bindparam("approval"))
    .values(
        status=sa.bindparam("new_status"),
        resolved_at=sa.bindparam("new_resolved_at"),
        resolution=sa.bindparam("new_resolution"),
    )
)
_RUNNING = (TurnStarted, TurnResumed, TurnRecovering)


class Projection:
    """Belongs to a journal; every call runs within its transaction."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    def apply(self, connection: Connection, event: Event, user_id: str) -> None:
        """Bring the rows up to this event."""
        body = event.body
        if isinstance(body, MessageAccepted):
            connection.execute(_INSERT_TURN, _turn_row(event, body, user_id))
        elif isinstance(body, _RUNNING):
            connection.execute(_MOVE_TURN, {"turn": event.turn_id, "new_status": "running"})
        elif isinstance(body, TurnWaiting):
            connection.execute(_MOVE_TURN, {"turn": event.turn_id, "new_status": "waiting"})
        elif isinstance(body, TERMINAL):
            assert event.turn_id is not None
            ended = {
                "turn": event.turn_id,
                "new_status": body.type.removeprefix("turn."),
                "new_finished_at": event.created_at,
                "new_outcome": self._payloads.seal_outcome(body, turn_id=event.turn_id, user_id=user_id),
            }
            connection.execute(_END_TURN, ended)
        elif isinstance(body, ApprovalRequested):
            connection.execute(_INSERT_APPROVAL, self._approval_row(event, body, user_id))
        elif isinstance(body, ApprovalResolved | ApprovalExpired):
            self._end_approval(connection, event, body, user_id)

    def _approval_row(self, event: Event, body: ApprovalRequested, user_id: str) -> dict[str, Any]:
        request = self._payloads.seal_approval(body, approval_id=body.approval_id, part="request", user_id=user_id)
        return {
            "id": body.approval_id,
            "session_id": event.session_id,
            "turn_id": event.turn_id,
            "user_id": user_id,
            "status": "pending",
            "created_at": event.created_at,
            "expires_at": body.expires_at,
            "request": request,
        }

    def _end_approval(
        self, connection: Connection, event: Event, body: ApprovalResolved | ApprovalExpired, user_id: str
    ) -> None:
        resolution = self._payloads.seal_approval(
            body, approval_id=body.approval_id, part="resolution", user_id=user_id
        )
        if isinstance(body, ApprovalResolved):
            status = "approved" if body.decision == "approve" else "denied"
        else:
            status = "cancelled" if body.cancelled else "expired"
        connection.execute(
            _END_APPROVAL,
            {
                "approval": body.approval_id,
                "new_status": status,
                "new_resolved_at": event.created_at,
                "new_resolution": resolution,
            },
        )


def _turn_row(event: Event, body: MessageAccepted, user_id: str) -> dict[str, Any]:
    return {
        "id": event.turn_id,
        "session_id": event.session_id,
        "user_id": user_id,
        "message_id": body.message_id,
        "status": "queued",
        "created_at": event.created_at,
        "accepted_seq": event.seq,
        "fingerprint": body.fingerprint,
    }
