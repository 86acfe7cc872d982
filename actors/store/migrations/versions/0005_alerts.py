"""Thresholds of budgets that were reached, each once, and what is still to be done about them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "budget_alerts",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("bucket", sa.String(200), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("severity", sa.String(20), nullable=False),
        sa.Column("threshold_micros", sa.BigInteger, nullable=False),
        sa.Column("limit_micros", sa.BigInteger),
        sa.Column("spent_micros", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.String(200), nullable=False),
        sa.Column("session_id", sa.String(200)),
        sa.Column("fired_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("bucket", "name", name="budget_alerts_once"),
    )
    op.create_index("budget_alerts_by_state", "budget_alerts", ["state", "due_at"])
    op.create_index("budget_alerts_by_user", "budget_alerts", ["user_id", "fired_at"])
