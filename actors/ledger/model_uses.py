"""What each model was sent and what it cost, with what a prompt cache could have served: the rows behind advice."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.messages import TOKENS, Usage
from ..store.database import Database
from .book import ATTEMPTS
from .costs import as_of_one_moment, attempts_in
from .periods import Span

CACHE_S = 300
"""So long a provider keeps a prompt in its cache, after its last use."""

MODELS_MOST = 50
RECENT_MOST = 1000

_DATE = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model's calls of which tokens and cost are known.

    `repeated` tokens of its prompts were said in the call before, in the same session and less than `CACHE_S` earlier,
    and were not read from a cache.
    """

    model: str
    calls: int
    usage: Usage
    micros: int
    largest_prompt: int
    repeated: int


@dataclass(frozen=True, slots=True)
class RecentCall:
    """A call that told its tokens."""

    turn_id: str
    session_id: str
    usage: Usage


class ModelUses:
    """Reads the book of attempts. `user_id` None is everybody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, span: Span, *, user_id: str | None) -> tuple[ModelUse, ...]:
        """The dearest first, of so many. Raises `StoreUnavailable`."""
        return await self._database.read(lambda c: _report(c, span, user_id))

    async def recent(self, user_id: str, model: str) -> tuple[RecentCall, ...]:
        """Those of a model among a user's newest calls, the newest first. Raises `StoreUnavailable`."""
        query = (
            sa.select(ATTEMPTS)
            .where(
                ATTEMPTS.c.user_id == user_id,
                ATTEMPTS.c.kind == "model",
                ATTEMPTS.c.completion_tokens.is_not(None),
                ATTEMPTS.c.prompt_tokens > 0,
            )
            .order_by(ATTEMPTS.c.started_at.desc(), ATTEMPTS.c.id.desc())
            .limit(RECENT_MOST)
        )
        rows: Sequence[Any] = await self._database.read(lambda c: c.execute(query).all())
        mine = (row for row in rows if plain_name(row.model) == plain_name(model))
        return tuple(RecentCall(row.turn_id, row.session_id, Usage.of(row)) for row in mine)


def plain_name(model: str) -> str:
    """A model's name without variant and date: what answers a request for `a/b` may call itself `a/b-2026-08-06`."""
    return _DATE.sub("", model.partition(":")[0])


def _before(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Of the call before, of this model in this session."""
    order = (ATTEMPTS.c.started_at, ATTEMPTS.c.id)
    return sa.func.lag(column).over(partition_by=(ATTEMPTS.c.session_id, ATTEMPTS.c.model), order_by=order)


def _report(connection: Connection, span: Span, user_id: str | None) -> tuple[ModelUse, ...]:
    as_of_one_moment(connection)
    started = sa.type_coerce(ATTEMPTS.c.started_at, sa.BigInteger)
    known = sa.and_(ATTEMPTS.c.kind == "model", ATTEMPTS.c.cost_micros.is_not(None), ATTEMPTS.c.prompt_tokens > 0)
    calls = (
        sa.select(
            ATTEMPTS.c.model,
            ATTEMPTS.c.cost_micros.label("micros"),
            ATTEMPTS.c.prompt_tokens,
            sa.func.coalesce(ATTEMPTS.c.completion_tokens, 0).label("completion_tokens"),
            sa.func.coalesce(ATTEMPTS.c.cached_tokens, 0).label("cached_tokens"),
            sa.func.coalesce(ATTEMPTS.c.reasoning_tokens, 0).label("reasoning_tokens"),
            _before(ATTEMPTS.c.prompt_tokens + sa.func.coalesce(ATTEMPTS.c.completion_tokens, 0)).label("said"),
            (started - _before(started)).label("gap"),
        )
        .where(attempts_in(span, user_id), known)
        .subquery()
    )
    c = calls.c
    could = sa.case((c.said < c.prompt_tokens, c.said), else_=c.prompt_tokens) - c.cached_tokens
    repeated = sa.case((sa.and_(c.gap <= CACHE_S * 1_000_000, could > 0), could), else_=0)
    micros = sa.func.sum(c.micros).label("micros")
    query = (
        sa.select(
            c.model,
            sa.func.count().label("calls"),
            micros,
            *(sa.func.sum(c[name]).label(name) for name in TOKENS),
            sa.func.max(c.prompt_tokens).label("largest"),
            sa.func.sum(repeated).label("repeated"),
        )
        .group_by(c.model)
        .order_by(micros.desc(), c.model)
        .limit(MODELS_MOST)
    )
    return tuple(
        ModelUse(
            row.model,
            row.calls,
            Usage.of(row),
            int(row.micros),
            row.largest,
            int(row.repeated),
        )
        for row in connection.execute(query)
    )
