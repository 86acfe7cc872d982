"""Evidence out of the cluster's database, SQLite or PostgreSQL: read only, one session at a time."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from actors.agent.tables import EVENTS, SESSIONS, TURNS
from actors.core.clock import Clock
from actors.core.events import Event, Spent
from actors.core.messages import Usage
from actors.ledger.book import attempts_of
from actors.security.cipher import Cipher
from actors.store.database import Database

from .evidence import SessionEvidence, SessionFacts, TurnFacts
from .stored_bodies import read_body

PAGE_SESSIONS = 500
PAGE_EVENTS = 2000

READS = 5
PAUSE_S = 0.2
"""A session whose beginning is trimmed while it is read is read again so often, after such a pause."""


class KeepsChanging(Exception):
    """The session was trimmed again and again while it was read, so nothing was found out about it."""


class JournalReader:
    """Writes nothing. Raises `StoreUnavailable`, or SQLAlchemy's errors where the schema is not ours."""

    def __init__(self, database: Database, cipher: Cipher, clock: Clock, *, page_events: int = PAGE_EVENTS) -> None:
        self._database = database
        self._cipher = cipher
        self._clock = clock
        self._page_events = page_events

    async def count(self, since: datetime | None = None) -> int:
        """How many sessions `session_ids` will name."""
        query = _living(sa.select(sa.func.count()).select_from(SESSIONS), since)
        return await self._database.read(lambda c: c.execute(query).scalar_one())

    async def session_ids(self, since: datetime | None = None) -> AsyncIterator[str]:
        """Sessions that were not deleted; with `since`, those that were written to from then on."""
        after = ""
        while True:
            query = _living(sa.select(SESSIONS.c.id), since).where(SESSIONS.c.id > after)
            page = query.order_by(SESSIONS.c.id).limit(PAGE_SESSIONS)
            found = await self._database.read(lambda c, page=page: c.execute(page).scalars().all())
            for session_id in found:
                yield session_id
            if len(found) < PAGE_SESSIONS:
                return
            after = found[-1]

    async def read(self, session_id: str) -> SessionEvidence | None:
        """A session as it was at one moment, or None when there is none. Raises `KeepsChanging`."""
        for _ in range(READS):
            row = await self._database.read(lambda c: _row(c, session_id))
            if row is None:
                return None
            # Most of it in pages, each a transaction of its own: events that are written do not change.
            events = await self._pages(row)
            # Then what came meanwhile and all that goes with it, as of one moment.
            evidence = await self._database.read(lambda c, row=row, events=events: self._rest(c, row, events))
            if evidence is None or evidence.session is None or evidence.session.oldest_seq == row.oldest_seq:
                return evidence
            await self._clock.sleep(PAUSE_S)
        raise KeepsChanging(session_id)

    async def _pages(self, row: SessionFacts) -> list[Event]:
        events: list[Event] = []
        while True:
            last = events[-1].seq if events else 0
            page = await self._database.read(lambda c, last=last: self._events(c, row, last, self._page_events))
            events += page
            if len(page) < self._page_events:
                return events

    def _rest(self, connection: Connection, row: SessionFacts, events: list[Event]) -> SessionEvidence | None:
        if connection.dialect.name == "postgresql":
            # SQLite's transactions see one moment by themselves.
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        now = _row(connection, row.id)
        if now is None:
            return None
        new = self._events(connection, now, events[-1].seq if events else 0, None)
        turns, attempts = _turns(connection, row.id), attempts_of(connection, row.id)
        return SessionEvidence(row.id, (*events, *new), now, turns, attempts)

    def _events(self, connection: Connection, row: SessionFacts, after: int, limit: int | None) -> list[Event]:
        query = (
            sa.select(EVENTS)
            .where(EVENTS.c.session_id == row.id, EVENTS.c.seq > after)
            .order_by(EVENTS.c.seq)
            .limit(limit)
        )
        return [self._event(found, row.user_id) for found in connection.execute(query)]

    def _event(self, row: Any, user_id: str) -> Event:
        payload = self._cipher.unseal(row.payload, owner=user_id, place=f"events/{row.session_id}/{row.seq}")
        return Event(row.seq, row.session_id, row.turn_id, row.created_at, read_body(row.type, payload))


def _living(query: Any, since: datetime | None = None) -> Any:
    query = query.where(SESSIONS.c.deleted_at.is_(None))
    return query if since is None else query.where(SESSIONS.c.updated_at >= since)


def _row(connection: Connection, session_id: str) -> SessionFacts | None:
    row = connection.execute(_living(sa.select(SESSIONS)).where(SESSIONS.c.id == session_id)).one_or_none()
    if row is None:
        return None
    spent = Spent(Usage.of(row), row.cost_micros, row.cost_known)
    return SessionFacts(row.id, row.user_id, row.epoch, row.last_seq, row.status, spent, row.oldest_seq)


def _turns(connection: Connection, session_id: str) -> tuple[TurnFacts, ...]:
    rows = connection.execute(sa.select(TURNS).where(TURNS.c.session_id == session_id).order_by(TURNS.c.created_at))
    return tuple(TurnFacts(row.id, row.session_id, row.message_id, row.status, row.finished_at) for row in rows)
