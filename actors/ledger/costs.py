"""What attempts cost, by user, model or session and by period: added up in SQL, bounded however many they are."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.messages import Usage
from ..store.database import Database
from .book import ATTEMPTS
from .periods import Span
from .sums import Costs, Group, Sums, sliced, with_others
from .tables import HOLDS

GroupBy: TypeAlias = Literal["user", "model", "session", "tool"]
"""By `tool` only what is no model is counted: tools by name, sandboxes by what ran in them, embeddings."""

_IS_MODEL = ATTEMPTS.c.kind == "model"

# What is no model is a group of its own among models.
_OTHER_KINDS = {"tool": "(tools)", "sandbox": "(sandboxes)", "embedding": "(embeddings)"}
_MODEL: sa.ColumnElement[Any] = sa.case(
    (_IS_MODEL, ATTEMPTS.c.model),
    *((ATTEMPTS.c.kind == kind, sa.literal_column(f"'{name}'", sa.String)) for kind, name in _OTHER_KINDS.items()),
    else_=ATTEMPTS.c.kind,
)

# Something else that attempts are told apart by is a line here.
_KEYS: dict[GroupBy, sa.ColumnElement[Any]] = {
    "user": ATTEMPTS.c.user_id,
    "model": _MODEL,
    "session": ATTEMPTS.c.session_id,
    "tool": ATTEMPTS.c.name,
}

_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Moments are microseconds, so a day is a quotient on every database.
_DAY_OF = sa.type_coerce(ATTEMPTS.c.started_at, sa.BigInteger) // _DAY

# Grouped by the name of the column: PostgreSQL would not see that two expressions with parameters are the same.
_KEY_NAME: sa.ColumnElement[Any] = sa.literal_column("report_key", sa.String)

_UNKNOWN = ATTEMPTS.c.cost_micros.is_(None)
# Only those of unknown cost are looked up among the holds.
_WITH_HOLDS = ATTEMPTS.outerjoin(HOLDS, sa.and_(HOLDS.c.attempt_id == ATTEMPTS.c.id, _UNKNOWN))
_MICROS = sa.func.coalesce(sa.func.sum(ATTEMPTS.c.cost_micros), 0).label("micros")


def _sum(column: sa.ColumnElement[Any], name: str) -> sa.Label[Any]:
    return sa.func.coalesce(sa.func.sum(column), 0).label(name)


_CALLS = _sum(sa.case((_IS_MODEL, 1), else_=0), "calls")

_SUMS = (
    _CALLS,
    _sum(sa.case((_IS_MODEL, 0), else_=1), "uses"),
    _sum(sa.case((_UNKNOWN, 1), else_=0), "unknown"),
    _sum(sa.case((ATTEMPTS.c.state == "dispatched", 1), else_=0), "running"),
    _MICROS,
    _sum(HOLDS.c.charged, "held"),
    _sum(ATTEMPTS.c.prompt_tokens, "prompt_tokens"),
    _sum(ATTEMPTS.c.completion_tokens, "completion_tokens"),
    _sum(ATTEMPTS.c.cached_tokens, "cached_tokens"),
    _sum(ATTEMPTS.c.reasoning_tokens, "reasoning_tokens"),
)


class CostBook:
    """Reads the book of attempts. Who may see whose is the caller's affair: `user_id` None is everybody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, span: Span, by: GroupBy, *, user_id: str | None, limit: int) -> Costs:
        """`limit` groups are told by name, in all and in each period; the others are one. As of one moment.

        Raises `StoreUnavailable`.
        """
        return await self._database.read(lambda c: _report(c, span, by, user_id, limit))


def attempts_in(span: Span, user_id: str | None) -> sa.ColumnElement[bool]:
    """Attempts of a user, or of all, that began in the span. The index by user serves the first."""
    began = sa.and_(ATTEMPTS.c.started_at >= span.begin, ATTEMPTS.c.started_at < span.end)
    return began if user_id is None else sa.and_(ATTEMPTS.c.user_id == user_id, began)


def as_of_one_moment(connection: Connection) -> None:
    """What is read next is read as of one moment, so that it adds up. On SQLite every transaction does."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _report(connection: Connection, span: Span, by: GroupBy, user_id: str | None, limit: int) -> Costs:
    as_of_one_moment(connection)
    key, chosen = _KEYS[by], attempts_in(span, user_id)
    if by == "tool":
        chosen = sa.and_(chosen, ATTEMPTS.c.kind != "model")
    total = _sums(connection.execute(sa.select(*_SUMS).select_from(_WITH_HOLDS).where(chosen)).one())
    dearest = (
        sa.select(key.label("report_key"), *_SUMS)
        .select_from(_WITH_HOLDS)
        .where(chosen)
        .group_by(_KEY_NAME)
        .order_by(_MICROS.desc(), _CALLS.desc(), _KEY_NAME)
        .limit(limit)
    )
    named = [Group(row.report_key, _sums(row)) for row in connection.execute(dearest)]
    name = sa.case((key.in_([group.key for group in named]), key), else_=None)
    by_day = (
        sa.select(_DAY_OF.label("report_day"), name.label("report_key"), *_SUMS)
        .select_from(_WITH_HOLDS)
        .where(chosen)
        .group_by(sa.literal_column("report_day", sa.BigInteger), _KEY_NAME)
    )
    rows = connection.execute(by_day)
    daily = [(_EPOCH + timedelta(days=row.report_day), row.report_key, _sums(row)) for row in rows]
    return Costs(span, total, with_others(named, total), sliced(span, daily))


def _sums(row: Any) -> Sums:
    # PostgreSQL adds whole numbers up to decimals.
    return Sums(
        int(row.calls), int(row.uses), int(row.unknown), int(row.running), int(row.micros), int(row.held), Usage.of(row)
    )
