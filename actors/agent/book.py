"""The read side: sessions, events and turns as clients ask for them, straight from SQL, by any process.

Every look-up is of one user; what belongs to another is not found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.clock import Clock
from ..core.errors import CursorExpired, SessionExists, SessionNotFound, TurnNotFound
from ..core.events import Event, Origin, SessionCreated, Spent, TurnCancelled, TurnCompleted, TurnFailed
from ..core.ids import NewId
from ..core.messages import Usage
from ..ledger.book import AttemptClosed, open_attempts, record
from ..ledger.totals import totals
from ..store.database import Database
from .fork import forked
from .journal import FIRST_EPOCH, Append, Journal, Profile
from .payloads import Payloads
from .tables import APPROVALS, EVENTS, SESSIONS, TURNS

Outcome: TypeAlias = TurnCompleted | TurnFailed | TurnCancelled


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as lists show it. `title` is the start of its first message."""

    id: str
    user_id: str
    title: str | None
    model: str
    system: str | None
    metadata: dict[str, Any]
    status: str
    created_at: datetime
    updated_at: datetime
    last_seq: int
    oldest_seq: int
    """The first event that is left; 1 unless the history was trimmed."""
    fingerprint: str | None
    """Of the request that created it, when that carried an Idempotency-Key."""
    spent: Spent
    """As it is known now, which may be more than its events tell."""
    approvals: tuple[str, ...] = ()
    """Names of the tools that a person must approve in it, beside those of the settings."""
    forked_from: Origin | None = None


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn. `outcome` is its terminal event, None while it runs."""

    id: str
    session_id: str
    message_id: str
    status: str
    created_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    accepted_seq: int
    """Number of its `message.accepted`."""
    fingerprint: str | None
    """Of the request that brought its message, when that carried an Idempotency-Key."""


class SessionBook:
    """Queries over the journal's tables, and the changes that need no session actor: open, fork and delete."""

    def __init__(self, database: Database, payloads: Payloads, journal: Journal, clock: Clock) -> None:
        self._database = database
        self._payloads = payloads
        self._journal = journal
        self._clock = clock

    async def open(
        self, session_id: str, user_id: str, body: SessionCreated, *, fingerprint: str | None = None
    ) -> tuple[SessionRow, bool]:
        """Create a session, or find it: True when it is new. Raises `SessionExists` when it is someone else's."""
        event = Event(1, session_id, None, self._clock.now(), body)
        return await self._create(session_id, user_id, (event,), title=None, fingerprint=fingerprint)

    async def fork(
        self, source: SessionRow, session_id: str, *, from_seq: int, new_id: NewId, fingerprint: str | None = None
    ) -> tuple[SessionRow, bool]:
        """Create a session whose past is that of `source` up to event `from_seq`, in one transaction.

        Found instead of made when it is there: True when it is new. Raises `CursorExpired` when that event
        was trimmed.
        """
        read = await self._journal.read(source.id, after=0, limit=from_seq)
        past = tuple(event for event in read if event.seq <= from_seq)
        if not past:
            raise CursorExpired(session_id=source.id, oldest_seq=read[0].seq if read else source.oldest_seq)
        events = forked(past, session_id, new_id=new_id, now=self._clock.now())
        return await self._create(session_id, source.user_id, events, title=source.title, fingerprint=fingerprint)

    async def _create(
        self, session_id: str, user_id: str, events: tuple[Event, ...], *, title: str | None, fingerprint: str | None
    ) -> tuple[SessionRow, bool]:
        created = events[0].body
        assert isinstance(created, SessionCreated)
        profile = Profile(title, created.system, created.metadata, created.approvals, created.forked_from)
        append = Append(session_id, user_id, FIRST_EPOCH, 0, events, profile=profile, fingerprint=fingerprint)
        try:
            await self._journal.append(append)
        except SessionExists:
            try:
                return await self.get(session_id, user_id), False
            except SessionNotFound:
                raise SessionExists(session_id=session_id) from None
        return await self.get(session_id, user_id), True

    async def get(self, session_id: str, user_id: str) -> SessionRow:
        """Raises `SessionNotFound`."""
        query = _visible(user_id).where(SESSIONS.c.id == session_id)

        def work(connection: Connection) -> tuple[SessionRow, ...]:
            return self._rows(connection, connection.execute(query).all())

        found = await self._database.read(work)
        if not found:
            raise SessionNotFound(session_id=session_id)
        return found[0]

    async def page(self, user_id: str, *, limit: int, after: str | None) -> tuple[tuple[SessionRow, ...], bool]:
        """Sessions of a user, newest first, from below the session `after` on; and whether there are more."""

        def work(connection: Connection) -> tuple[tuple[SessionRow, ...], bool]:
            query = _visible(user_id).order_by(SESSIONS.c.created_at.desc(), SESSIONS.c.id.desc()).limit(limit + 1)
            if after is not None:
                # The cursor may have been deleted since: its row is still there, and its place with it.
                cursor = connection.execute(
                    sa.select(SESSIONS.c.created_at, SESSIONS.c.id).where(
                        SESSIONS.c.id == after, SESSIONS.c.user_id == user_id
                    )
                ).one_or_none()
                if cursor is None:
                    raise SessionNotFound(f"the cursor {after!r} is no session of yours", session_id=after)
                older = SESSIONS.c.created_at < cursor.created_at
                at_once = sa.and_(SESSIONS.c.created_at == cursor.created_at, SESSIONS.c.id < cursor.id)
                query = query.where(sa.or_(older, at_once))
            rows = connection.execute(query).all()
            return self._rows(connection, rows[:limit]), len(rows) > limit

        return await self._database.read(work)

    async def events(self, session_id: str, *, after: int, limit: int) -> tuple[tuple[Event, ...], bool]:
        """A page of the journal, and whether there is more. Whose it is was checked by `get`."""
        found = await self._journal.read(session_id, after=after, limit=limit + 1)
        return found[:limit], len(found) > limit

    async def turn(self, turn_id: str, user_id: str) -> TurnRow:
        """Raises `TurnNotFound`."""
        found = await self._turn(TURNS.c.id == turn_id, TURNS.c.user_id == user_id)
        if found is None:
            raise TurnNotFound(turn_id=turn_id)
        return found

    async def turn_of_message(self, session_id: str, message_id: str) -> TurnRow | None:
        """The turn that a message opened. Whose session it is was checked by `get`."""
        return await self._turn(TURNS.c.session_id == session_id, TURNS.c.message_id == message_id)

    async def begun_turn(self, session_id: str) -> TurnRow | None:
        """The turn that runs, or waits for a person. Whose session it is was checked by `get`."""
        return await self._turn(TURNS.c.session_id == session_id, TURNS.c.status.in_(("running", "waiting")))

    async def _turn(self, *conditions: sa.ColumnElement[bool]) -> TurnRow | None:
        row = await self._database.read(lambda c: c.execute(sa.select(TURNS).where(*conditions)).first())
        if row is None:
            return None
        outcome = None
        if row.outcome is not None:
            body = self._payloads.outcome(row.outcome, turn_id=row.id, user_id=row.user_id)
            assert isinstance(body, TurnCompleted | TurnFailed | TurnCancelled)
            outcome = body
        return TurnRow(
            row.id,
            row.session_id,
            row.message_id,
            row.status,
            row.created_at,
            row.finished_at,
            outcome,
            row.accepted_seq,
            row.fingerprint,
        )

    async def delete(self, session_id: str, user_id: str) -> None:
        """Forget a session's events and turns. Its ledger stays. Raises `SessionNotFound`.

        The raised epoch fences whoever still hosts it, so nothing can be written after this: model calls that
        are still open are closed here, as lost.
        """

        def work(connection: Connection) -> bool:
            owned = sa.and_(SESSIONS.c.id == session_id, SESSIONS.c.user_id == user_id, SESSIONS.c.deleted_at.is_(None))
            gone = connection.execute(
                sa.update(SESSIONS)
                .where(owned)
                .values(deleted_at=self._clock.now(), epoch=SESSIONS.c.epoch + 1, profile=b"", status="deleted")
            )
            if gone.rowcount == 0:
                return False
            connection.execute(sa.delete(EVENTS).where(EVENTS.c.session_id == session_id))
            connection.execute(sa.delete(APPROVALS).where(APPROVALS.c.session_id == session_id))
            connection.execute(sa.delete(TURNS).where(TURNS.c.session_id == session_id))
            still_open = open_attempts(connection, session_id, tools=True).values()
            now = self._clock.now()
            record(connection, [AttemptClosed(attempt, "lost", now) for attempts in still_open for attempt in attempts])
            return True

        if not await self._database.write(work):
            raise SessionNotFound(session_id=session_id)

    async def was_deleted(self, session_id: str, user_id: str) -> bool:
        """Whether the user had a session of that id, and deleted it."""
        query = sa.select(SESSIONS.c.id).where(
            SESSIONS.c.id == session_id, SESSIONS.c.user_id == user_id, SESSIONS.c.deleted_at.is_not(None)
        )
        return await self._database.read(lambda c: c.execute(query).first()) is not None

    def _rows(self, connection: Connection, rows: Sequence[Any]) -> tuple[SessionRow, ...]:
        """Sessions with what was learnt of their costs since they wrote last."""
        told = {row.id: Spent(Usage.of(row), row.cost_micros, row.cost_known) for row in rows}
        spent = totals(connection, told) if told else told
        return tuple(self._session(row, spent[row.id]) for row in rows)

    def _session(self, row: Any, spent: Spent) -> SessionRow:
        profile = self._payloads.profile(row.profile, session_id=row.id, user_id=row.user_id)
        return SessionRow(
            id=row.id,
            user_id=row.user_id,
            title=profile.title,
            model=row.model,
            system=profile.system,
            metadata=profile.metadata,
            status=row.status,
            created_at=row.created_at,
            updated_at=row.updated_at,
            last_seq=row.last_seq,
            oldest_seq=row.oldest_seq,
            fingerprint=row.fingerprint,
            spent=spent,
            approvals=profile.approvals,
            forked_from=profile.forked_from,
        )


def _visible(user_id: str) -> sa.Select[Any]:
    return sa.select(SESSIONS).where(SESSIONS.c.user_id == user_id, SESSIONS.c.deleted_at.is_(None))
