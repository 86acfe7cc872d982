"""The journal on SQL, SQLite and PostgreSQL alike.

Appends of the sessions of a process that meet are one transaction (group commit): while one commit is
under way the next appends gather, so load raises the size of a commit and not their number.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.errors import CursorExpired, Fenced, GreenroomError, SessionExists, SessionNotFound, StoreUnavailable
from ..core.events import Event, HistoryTrimmed, SessionCreated, UsageUpdated
from ..core.telemetry import EPOCH_CONFLICTS, JOURNAL_COMMIT_EVENTS
from ..ledger.book import open_attempts, record
from ..store.database import Database
from .journal import FIRST_EPOCH, Activation, Append
from .payloads import Payloads
from .projection import Projection
from .retention import apply_cut, candidates, cut_of
from .tables import APPROVALS, EVENTS, SESSIONS, TURNS

# Statements are built once: SQLAlchemy takes longer to build one than SQLite to run it.
_INSERT_EVENTS = sa.insert(EVENTS)
_INSERT_SESSION = sa.insert(SESSIONS)
_EXISTS = sa.select(SESSIONS.c.id).where(SESSIONS.c.id == sa.bindparam("session"))

_IDS_AT_ONCE = 500

_KEPT = (
    "updated_at",
    "profile",
    "status",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_micros",
    "cost_known",
)
"""Columns of a session that an append leaves as they are where it says nothing of them."""

_FENCED_UPDATE = (
    sa.update(SESSIONS)
    .where(
        SESSIONS.c.id == sa.bindparam("session"),
        SESSIONS.c.epoch == sa.bindparam("writer"),
        SESSIONS.c.last_seq == sa.bindparam("after_seq"),
        SESSIONS.c.deleted_at.is_(None),
    )
    .values(
        last_seq=sa.bindparam("new_last_seq"),
        **{
            name: sa.func.coalesce(sa.bindparam(f"new_{name}", type_=SESSIONS.c[name].type), SESSIONS.c[name])
            for name in _KEPT
        },
    )
)


@dataclass(slots=True)
class _Pending:
    append: Append
    rows: list[dict[str, Any]]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class SqlJournal:
    """A `Journal`. One per process; `aclose` ends its writer."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._payloads = payloads
        self._projection = Projection(payloads)
        self._pending: list[_Pending] = []
        self._writer: asyncio.Task[None] | None = None

    async def append(self, append: Append) -> None:
        # Made here, so that an event which cannot be written is its own session's trouble and no one else's.
        pending = _Pending(append, [self._payloads.event_row(event, append.user_id) for event in append.events])
        self._pending.append(pending)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="journal-writer")
        # Shielded: a caller that is cancelled must not leave an append half known.
        await asyncio.shield(pending.done)

    async def _write_all(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                await self._commit(batch)
        finally:
            self._writer = None

    async def _commit(self, batch: list[_Pending], *, again: bool = True) -> None:
        JOURNAL_COMMIT_EVENTS.observe(sum(len(p.append.events) for p in batch))
        try:
            results = await self._database.write(lambda c: [self._apply(c, p) for p in batch])
        except StoreUnavailable as error:
            results = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - one append is bad, and took the others' transaction with it
            # A session that another process created in this very moment is there at the second look.
            if len(batch) > 1 or (again and batch[0].append.creates):
                for pending in batch:
                    await self._commit([pending], again=len(batch) > 1)
                return
            results = [error]
        for pending, result in zip(batch, results, strict=True):
            if pending.done.cancelled():
                continue
            if result is None:
                pending.done.set_result(None)
            else:
                pending.done.set_exception(result)

    def _apply(self, connection: Connection, pending: _Pending) -> GreenroomError | None:
        """Write one append, or return the refusal: the appends beside it in the commit are not touched by it."""
        append = pending.append
        refusal = self._create(connection, append) if append.creates else self._advance(connection, append)
        if refusal is not None:
            EPOCH_CONFLICTS.inc()
            return refusal
        if pending.rows:
            connection.execute(_INSERT_EVENTS, pending.rows)
        for event in append.events:
            self._projection.apply(connection, event, append.user_id)
        record(connection, append.attempts)
        return None

    def _create(self, connection: Connection, append: Append) -> GreenroomError | None:
        if connection.execute(_EXISTS, {"session": append.session_id}).first():
            return SessionExists(session_id=append.session_id)
        first = append.events[0]
        assert isinstance(first.body, SessionCreated)
        assert append.profile is not None
        row: dict[str, Any] = {
            "id": append.session_id,
            "user_id": append.user_id,
            "epoch": FIRST_EPOCH,
            "model": first.body.model,
            "status": append.status,
            "fingerprint": append.fingerprint,
            "created_at": first.created_at,
        }
        connection.execute(_INSERT_SESSION, {**row, **self._header(append)})
        return None

    def _advance(self, connection: Connection, append: Append) -> GreenroomError | None:
        header = {**dict.fromkeys(_KEPT), **self._header(append)}
        result = connection.execute(
            _FENCED_UPDATE,
            {
                "session": append.session_id,
                "writer": append.epoch,
                "after_seq": append.after_seq,
                **{f"new_{name}": value for name, value in header.items()},
            },
        )
        return None if result.rowcount == 1 else Fenced(session_id=append.session_id, epoch=append.epoch)

    def _header(self, append: Append) -> dict[str, Any]:
        """The session's row as these events leave it."""
        header: dict[str, Any] = {"last_seq": append.after_seq + len(append.events)}
        if append.events:
            header["status"] = append.status
            header["updated_at"] = append.events[-1].created_at
        if append.profile is not None:
            header["profile"] = self._payloads.seal_profile(
                append.profile, session_id=append.session_id, user_id=append.user_id
            )
        for event in append.events:
            if isinstance(event.body, UsageUpdated):
                total = event.body.session
                header |= {
                    "prompt_tokens": total.usage.prompt_tokens,
                    "completion_tokens": total.usage.completion_tokens,
                    "cached_tokens": total.usage.cached_tokens,
                    "reasoning_tokens": total.usage.reasoning_tokens,
                    "cost_micros": total.cost_micros,
                    "cost_known": total.cost_known,
                }
        return header

    async def activate(self, session_id: str, user_id: str | None = None) -> Activation:
        return await self._database.write(lambda c: self._take_over(c, session_id, user_id))

    def _take_over(self, connection: Connection, session_id: str, user_id: str | None) -> Activation:
        update = sa.update(SESSIONS).where(SESSIONS.c.id == session_id, SESSIONS.c.deleted_at.is_(None))
        if user_id is not None:
            update = update.where(SESSIONS.c.user_id == user_id)
        owner = connection.execute(
            update.values(epoch=SESSIONS.c.epoch + 1).returning(SESSIONS.c.epoch, SESSIONS.c.user_id)
        ).one_or_none()
        if owner is None:
            raise SessionNotFound(session_id=session_id)
        events = self._events(connection, session_id, owner.user_id, after=0, limit=None)
        return Activation(session_id, owner.user_id, owner.epoch, tuple(events), open_attempts(connection, session_id))

    async def read(self, session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        def work(connection: Connection) -> Sequence[Event]:
            owner = connection.execute(
                sa.select(SESSIONS.c.user_id).where(SESSIONS.c.id == session_id, SESSIONS.c.deleted_at.is_(None))
            ).scalar()
            if owner is None:
                raise SessionNotFound(session_id=session_id)
            events = self._events(connection, session_id, owner, after=after, limit=limit)
            # Told by the events themselves: the row may be of the moment before a trim, and they of the one after.
            if after > 0 and events and isinstance(events[0].body, HistoryTrimmed):
                raise CursorExpired(session_id=session_id, oldest_seq=events[0].seq)
            return events

        return tuple(await self._database.read(work))

    def _events(
        self, connection: Connection, session_id: str, user_id: str, *, after: int, limit: int | None
    ) -> Sequence[Event]:
        query = (
            sa.select(EVENTS.c.seq, EVENTS.c.turn_id, EVENTS.c.created_at, EVENTS.c.payload)
            .where(EVENTS.c.session_id == session_id, EVENTS.c.seq > after)
            .order_by(EVENTS.c.seq)
            .limit(limit)
        )
        return [
            self._payloads.event(
                session_id=session_id, seq=seq, turn_id=turn_id, created_at=at, payload=payload, user_id=user_id
            )
            for seq, turn_id, at, payload in connection.execute(query)
        ]

    async def exists(self, session_id: str) -> bool:
        query = sa.select(SESSIONS.c.id).where(SESSIONS.c.id == session_id, SESSIONS.c.deleted_at.is_(None))
        return await self._database.read(lambda c: c.execute(query).first()) is not None

    async def overtaken(self, epochs: Mapping[str, int]) -> tuple[str, ...]:
        def work(connection: Connection) -> tuple[str, ...]:
            found: dict[str, int] = {}
            ids = tuple(epochs)
            for at in range(0, len(ids), _IDS_AT_ONCE):
                query = sa.select(SESSIONS.c.id, SESSIONS.c.epoch).where(
                    SESSIONS.c.id.in_(ids[at : at + _IDS_AT_ONCE]), SESSIONS.c.deleted_at.is_(None)
                )
                found.update((row.id, row.epoch) for row in connection.execute(query))
            return tuple(one for one, epoch in epochs.items() if found.get(one) != epoch)

        return await self._database.read(work)

    async def unfinished(self, *, limit: int) -> tuple[str, ...]:
        query = (
            sa.select(TURNS.c.session_id)
            .join(SESSIONS, SESSIONS.c.id == TURNS.c.session_id)
            .where(TURNS.c.finished_at.is_(None), SESSIONS.c.status.not_in(("waiting", "paused")))
            .group_by(TURNS.c.session_id)
            .order_by(sa.func.min(TURNS.c.created_at))
            .limit(limit)
        )
        return tuple(await self._database.read(lambda c: c.execute(query).scalars().all()))

    async def due(self, now: datetime, *, limit: int) -> tuple[str, ...]:
        query = (
            sa.select(APPROVALS.c.session_id)
            .where(APPROVALS.c.status == "pending", APPROVALS.c.expires_at <= now)
            .group_by(APPROVALS.c.session_id)
            .order_by(sa.func.min(APPROVALS.c.expires_at))
            .limit(limit)
        )
        return tuple(await self._database.read(lambda c: c.execute(query).scalars().all()))

    async def trim(self, before: datetime, *, limit: int) -> int:
        found = await self._database.read(lambda c: candidates(c, before, limit))
        trimmed = 0
        for session in found:
            # A transaction for each: a writer waits for one session's trim at most.
            trimmed += await self._database.write(lambda c, session=session: self._trim(c, session, before))
        return trimmed

    def _trim(self, connection: Connection, session: Any, before: datetime) -> bool:
        events = self._events(connection, session.id, session.user_id, after=0, limit=None)
        cut = cut_of(events, before) if events else None
        return cut is not None and apply_cut(connection, session, cut, self._payloads)
