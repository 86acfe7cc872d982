"""Costs that become known after the fact: which attempts are still to be looked up, and what that has changed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("look_at", sa.BigInteger))
    waiting = sa.text("look_at IS NOT NULL")
    op.create_index("attempts_to_look_up", "attempts", ["look_at"], sqlite_where=waiting, postgresql_where=waiting)
    # What ended before this was there is looked up too; the round gives up what is too old.
    op.execute(
        "UPDATE attempts SET look_at = finished_at WHERE state = 'ended' AND cost_micros IS NULL"
        " AND generation_id IS NOT NULL"
    )
    op.create_table(
        "attempt_corrections",
        sa.Column("attempt_id", sa.String(64), primary_key=True),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.Column("cost_was_known", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("attempt_corrections_by_session", "attempt_corrections", ["session_id"])
