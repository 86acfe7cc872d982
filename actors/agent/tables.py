"""The tables of the journal. `events` is the truth; `sessions`, `turns` and `approvals` are kept in step with it."""

import sqlalchemy as sa

from ..store.database import METADATA, Instant

_TO_SWEEP = sa.text("deleted_at IS NOT NULL AND swept_at IS NULL")

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("oldest_seq", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("model", sa.String(200), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("profile", sa.LargeBinary, nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cost_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("cost_known", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    # Its workspace is gone from the object store, too.
    sa.Column("swept_at", Instant),
    sa.Column("fingerprint", sa.String(64)),
    sa.Index("sessions_by_user", "user_id", "created_at", "id"),
    sa.Index("sessions_to_sweep", "deleted_at", sqlite_where=_TO_SWEEP, postgresql_where=_TO_SWEEP),
)

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.id"), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("turn_id", sa.String(64)),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

_UNFINISHED = sa.text("finished_at IS NULL")

TURNS = sa.Table(
    "turns",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.id"), nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("message_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("outcome", sa.LargeBinary),
    sa.Column("accepted_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("fingerprint", sa.String(64)),
    sa.UniqueConstraint("session_id", "message_id"),
    # Partial on PostgreSQL too: the migration says so. Said here it would load that dialect in every process.
    sa.Index("turns_unfinished", "session_id", sqlite_where=_UNFINISHED),
)

_PENDING = sa.text("status = 'pending'")

APPROVALS = sa.Table(
    "approvals",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("session_id", sa.String(64), sa.ForeignKey("sessions.id"), nullable=False),
    sa.Column("turn_id", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("resolved_at", Instant),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("resolution", sa.LargeBinary),
    sa.Index("approvals_by_user", "user_id", "created_at", "id"),
    sa.Index("approvals_by_session", "session_id"),
    sa.Index("approvals_pending", "expires_at", sqlite_where=_PENDING),
)
