"""Holds and buckets in SQL: the truth behind every backend. Σ holds = buckets, by one transaction for both."""

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
