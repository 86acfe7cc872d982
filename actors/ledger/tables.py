"""Holds, buckets and alerts in SQL: the truth behind every backend. Σ holds = buckets, by one transaction for both."""

import sqlalchemy as sa

from ..store.database import METADATA, Instant

HOLDS = sa.Table(
    "ledger_holds",
    METADATA,
    sa.Column("attempt_id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("asked", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("charged", sa.BigInteger, nullable=False),
    # Names, a line each: a hold is settled in the buckets of its birth.
    sa.Column("buckets", sa.Text, nullable=False),
    sa.Column("until", Instant, nullable=False),
    sa.Index("ledger_holds_by_state", "state", "until"),
)

BUCKETS = sa.Table(
    "ledger_buckets",
    METADATA,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("flag", sa.String(20)),
)

# Thresholds that were reached, and how far the reaction to each has come: what must be done is in the same commit as
# the charge that calls for it.
ALERTS = sa.Table(
    "budget_alerts",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("bucket", sa.String(200), nullable=False),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("severity", sa.String(20), nullable=False),
    sa.Column("threshold_micros", sa.BigInteger, nullable=False),
    sa.Column("limit_micros", sa.BigInteger),
    sa.Column("spent_micros", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.String(200), nullable=False),
    sa.Column("session_id", sa.String(200)),
    sa.Column("fired_at", Instant, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.UniqueConstraint("bucket", "name", name="budget_alerts_once"),
    sa.Index("budget_alerts_by_state", "state", "due_at"),
    sa.Index("budget_alerts_by_user", "user_id", "fired_at"),
)
