"""Approvals; where a turn's message stands and what its request looked like; where a trimmed history begins."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("oldest_seq", sa.BigInteger, nullable=False, server_default="1"))
    op.add_column("sessions", sa.Column("fingerprint", sa.String(64)))
    op.add_column("turns", sa.Column("accepted_seq", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("turns", sa.Column("fingerprint", sa.String(64)))
    op.execute(
        "UPDATE turns SET accepted_seq = coalesce((SELECT min(seq) FROM events"
        " WHERE events.session_id = turns.session_id AND events.turn_id = turns.id"
        " AND events.type = 'message.accepted'), 0)"
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.id"), nullable=False),
        sa.Column("turn_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("resolved_at", sa.BigInteger),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("resolution", sa.LargeBinary),
    )
    op.create_index("approvals_by_user", "approvals", ["user_id", "created_at", "id"])
    op.create_index("approvals_by_session", "approvals", ["session_id"])
    pending = sa.text("status = 'pending'")
    op.create_index("approvals_pending", "approvals", ["expires_at"], sqlite_where=pending, postgresql_where=pending)
