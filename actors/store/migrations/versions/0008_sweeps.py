"""Deleted sessions whose workspaces were dropped; and attempts by time, for reports of everybody."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("swept_at", sa.BigInteger))
    waiting = sa.text("deleted_at IS NOT NULL AND swept_at IS NULL")
    op.create_index("sessions_to_sweep", "sessions", ["deleted_at"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_index("attempts_by_time", "attempts", ["started_at"])
