"""The book of attempts: a row when a model or a tool is about to be called, completed when that has ended.

Rows are written by the journal, in the transaction that writes the events around the call; a crash in
between leaves the row `dispatched`, which says that money may have been spent. A row whose cost the server may
still tell has a time to ask it again (`truths.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.events import CostSource, PaidKind, Spent
from ..core.messages import Usage
from ..core.money import to_micros
from ..store.database import METADATA, Instant
from .corrections import Correction, corrections_of

ATTEMPTS = sa.Table(
    "attempts",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("turn_id", sa.String(64), nullable=False, index=True),
    sa.Column("session_id", sa.String(64), nullable=False, index=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    # One of `PaidKind`. Only models have a model; what the others are called is their name.
    sa.Column("kind", sa.String(20), nullable=False, default="model", server_default="model"),
    sa.Column("name", sa.String(200)),
    sa.Column("model", sa.String(200), nullable=False),
    sa.Column("provider", sa.String(200)),
    sa.Column("generation_id", sa.String(200)),
    sa.Column("outcome", sa.String(40)),
    sa.Column("prompt_tokens", sa.BigInteger),
    sa.Column("completion_tokens", sa.BigInteger),
    sa.Column("cached_tokens", sa.BigInteger),
    sa.Column("reasoning_tokens", sa.BigInteger),
    sa.Column("seconds", sa.Float),
    sa.Column("cost_micros", sa.BigInteger),
    sa.Column("cost_exact", sa.String(40)),
    sa.Column("cost_source", sa.String(20)),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    # When its cost is to be looked up again; NULL where it is known, or nobody will ever tell.
    sa.Column("look_at", Instant),
    sa.Index("attempts_by_user", "user_id", "started_at"),
    sa.Index("attempts_by_time", "started_at"),
    # Partial on PostgreSQL too, as the migration says.
    sa.Index("attempts_to_look_up", "look_at", sqlite_where=sa.text("look_at IS NOT NULL")),
)


@dataclass(frozen=True, slots=True)
class AttemptOpened:
    """A model or a tool is about to be called. A tool has a `name` and an empty `model`."""

    id: str
    turn_id: str
    session_id: str
    user_id: str
    model: str
    started_at: datetime
    kind: PaidKind = "model"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptNamed:
    """The server has named a model call that is under way: by that its cost can be found when this process dies."""

    id: str
    generation_id: str


@dataclass(frozen=True, slots=True)
class AttemptClosed:
    """A call has ended. `usage`, `cost_usd` and `seconds` are None when nobody knows them, which is not 0."""

    id: str
    outcome: str
    finished_at: datetime
    model: str | None = None
    provider: str | None = None
    generation_id: str | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    cost_source: CostSource = "unknown"
    seconds: float | None = None
    """Of a tool or a sandbox."""

    @property
    def may_be_corrected(self) -> bool:
        """Nobody has said yet what it cost, or only a list of prices has."""
        return self.cost_source in ("unknown", "price_list", "fallback")

    @property
    def spent(self) -> Spent:
        return Spent(
            usage=self.usage or Usage(),
            cost_micros=0 if self.cost_usd is None else to_micros(self.cost_usd),
            cost_known=self.cost_usd is not None,
        )


AttemptEntry: TypeAlias = AttemptOpened | AttemptNamed | AttemptClosed


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the book, as read back."""

    id: str
    turn_id: str
    model: str
    state: str
    outcome: str | None
    usage: Usage
    cost_micros: int | None
    cost_exact: Decimal | None
    cost_source: str | None
    details: dict[str, str | None] = field(default_factory=dict[str, str | None])
    kind: PaidKind = "model"
    name: str | None = None
    seconds: float | None = None
    late: Correction | None = None
    """What was learnt after the session's events had told of it, and is in the members above."""

    @property
    def told(self) -> Spent:
        """What the session's events say of it."""
        now = Spent(self.usage, self.cost_micros or 0, self.cost_micros is not None)
        return now if self.late is None else self.late.undone(now)

    @property
    def is_told(self) -> bool:
        """A `usage.updated` is due of it once it has ended; tools that cost nothing have none."""
        return self.kind == "model" or self.cost_micros != 0


_OPEN = sa.insert(ATTEMPTS)
_NAME = (
    sa.update(ATTEMPTS)
    .where(ATTEMPTS.c.id == sa.bindparam("attempt"))
    .values(generation_id=sa.bindparam("new_generation_id", type_=ATTEMPTS.c.generation_id.type))
)
_STILL_OPEN = sa.select(ATTEMPTS.c.turn_id, ATTEMPTS.c.id, ATTEMPTS.c.kind).where(
    ATTEMPTS.c.session_id == sa.bindparam("session"), ATTEMPTS.c.state == "dispatched"
)
_WIDTHS: dict[str, int | None] = {column.name: getattr(column.type, "length", None) for column in ATTEMPTS.columns}
_CLOSED_COLUMNS = (
    "state",
    "model",
    "provider",
    "generation_id",
    "outcome",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_micros",
    "cost_exact",
    "cost_source",
    "seconds",
    "finished_at",
)
# What is not known at the end stays as it was at the start: the model, above all.
_CLOSE = (
    sa.update(ATTEMPTS)
    .where(ATTEMPTS.c.id == sa.bindparam("attempt"))
    .values(
        {
            name: sa.func.coalesce(sa.bindparam(f"new_{name}", type_=ATTEMPTS.c[name].type), ATTEMPTS.c[name])
            for name in _CLOSED_COLUMNS
        }
    )
    .values(
        look_at=sa.case(
            (
                sa.func.coalesce(
                    sa.bindparam("new_generation_id", type_=ATTEMPTS.c.generation_id.type), ATTEMPTS.c.generation_id
                ).is_not(None),
                sa.bindparam("new_look_at", type_=Instant),
            )
        )
    )
)


def record(connection: Connection, entries: Sequence[AttemptEntry]) -> None:
    """Write entries in their order, within the caller's transaction."""
    ended = {entry.id for entry in entries if isinstance(entry, AttemptClosed)}
    for entry in entries:
        match entry:
            case AttemptOpened():
                connection.execute(_OPEN, fitted(_opened(entry)))
            case AttemptNamed():
                if entry.id not in ended:  # else its end says so too
                    named = entry.generation_id[: _WIDTHS["generation_id"]]
                    connection.execute(_NAME, {"attempt": entry.id, "new_generation_id": named})
            case AttemptClosed():
                closed = {f"new_{name}": value for name, value in fitted(_closed(entry)).items()}
                connection.execute(_CLOSE, {"attempt": entry.id, **closed})


def open_attempts(connection: Connection, session_id: str, *, tools: bool = False) -> dict[str, tuple[str, ...]]:
    """Model calls of a session that were opened and not closed, by turn; with `tools` everything else too."""
    rows = connection.execute(_STILL_OPEN, {"session": session_id})
    found: dict[str, tuple[str, ...]] = {}
    for turn_id, attempt_id, kind in rows:
        if tools or kind == "model":
            found[turn_id] = (*found.get(turn_id, ()), attempt_id)
    return found


def attempts_of(connection: Connection, session_id: str) -> tuple[Attempt, ...]:
    """Every attempt of a session, oldest first."""
    rows = connection.execute(
        sa.select(ATTEMPTS).where(ATTEMPTS.c.session_id == session_id).order_by(ATTEMPTS.c.started_at, ATTEMPTS.c.id)
    ).all()
    late = corrections_of(connection, session_id)
    return tuple(
        Attempt(
            id=row.id,
            turn_id=row.turn_id,
            model=row.model,
            state=row.state,
            outcome=row.outcome,
            usage=Usage.of(row),
            cost_micros=row.cost_micros,
            cost_exact=None if row.cost_exact is None else Decimal(row.cost_exact),
            cost_source=row.cost_source,
            details={"provider": row.provider, "generation_id": row.generation_id},
            kind=row.kind,
            name=row.name,
            seconds=row.seconds,
            late=late.get(row.id),
        )
        for row in rows
    )


def fitted(row: dict[str, object]) -> dict[str, object]:
    """Names that others chose, cut to their columns: a session must not stop over them."""
    return {
        name: value[:limit] if isinstance(value, str) and (limit := _WIDTHS[name]) else value
        for name, value in row.items()
    }


def _opened(entry: AttemptOpened) -> dict[str, object]:
    return {
        "id": entry.id,
        "turn_id": entry.turn_id,
        "session_id": entry.session_id,
        "user_id": entry.user_id,
        "state": "dispatched",
        "kind": entry.kind,
        "name": entry.name,
        "model": entry.model,
        "started_at": entry.started_at,
    }


def _closed(entry: AttemptClosed) -> dict[str, object]:
    usage, cost = entry.usage, entry.cost_usd
    return {
        "state": "ended" if cost is None else "settled",
        "model": entry.model,
        "provider": entry.provider,
        "generation_id": entry.generation_id,
        "outcome": entry.outcome,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "reasoning_tokens": usage and usage.reasoning_tokens,
        "cost_micros": None if cost is None else to_micros(cost),
        # Text, because SQLite has no exact decimal; every digit that the provider gave is kept.
        "cost_exact": None if cost is None else str(cost),
        "cost_source": entry.cost_source,
        "seconds": entry.seconds,
        "finished_at": entry.finished_at,
        "look_at": entry.finished_at if entry.may_be_corrected else None,
    }
