"""The journal on every database: SQLite in a file, and a PostgreSQL server of this run's own."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy.event import listen

from actors.agent.book import SessionBook
from actors.agent.journal import FIRST_EPOCH, Append, Profile
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.core.events import Event, MessageAccepted, SessionCreated, Spent, TurnCompleted, TurnStarted
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.testing import FakeClock
from actors.testing.postgres import Postgres

USER = "user_1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server(Protocol):
    """A database that can be put out of reach, and brought back."""

    url: str

    def stop(self) -> None: ...

    def start(self) -> None: ...


class SqliteFile:
    def __init__(self, file: Path) -> None:
        self.url = f"sqlite:///{file}"
        self._file = file
        self._lock: Any = None

    def stop(self) -> None:
        """Somebody else writes, and does not come to an end."""
        import sqlite3

        self._lock = sqlite3.connect(self._file, isolation_level=None)
        self._lock.execute("BEGIN EXCLUSIVE")

    def start(self) -> None:
        if self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()
            self._lock = None


class PostgresDatabase:
    def __init__(self, server: Postgres, url: str) -> None:
        self.server = server
        self.url = url
        self._stopped = False

    def stop(self) -> None:
        self.server.stop()
        self._stopped = True

    def start(self) -> None:
        if self._stopped:
            self.server.start()
            self._stopped = False


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> Iterator[Server]:
    if request.param == "sqlite":
        file = tmp_path / "greenroom.db"
        shutil.copy(migrated, file)
        made: Any = SqliteFile(file)
    else:
        made = PostgresDatabase(request.getfixturevalue("postgres"), request.getfixturevalue("new_postgresql")())
    try:
        yield made
    finally:
        made.start()


@dataclass
class Process:
    """What a process has of the database."""

    database: Database
    journal: SqlJournal
    book: SessionBook
    payloads: Payloads
    clock: FakeClock

    def count_commits(self) -> list[int]:
        """A list that grows by one with every commit from now on."""
        commits: list[int] = []
        listen(self.database.engine, "commit", lambda _: commits.append(1))
        return commits


@pytest.fixture
async def open_process(server: Server) -> AsyncIterator[Callable[..., Process]]:
    """Processes over the same database, each with its own connections."""
    async with AsyncExitStack() as stack:

        def open_process(*, statement_s: float = 10.0, connect_s: float = 3.0, pool: int = 5) -> Process:
            database = Database(server.url, pool=pool, connect_s=connect_s, statement_s=statement_s)
            stack.callback(database.close)
            payloads, clock = Payloads(ClearText()), FakeClock()
            journal = SqlJournal(database, payloads)
            return Process(database, journal, SessionBook(database, payloads, journal, clock), payloads, clock)

        yield open_process


@pytest.fixture
def process(open_process: Callable[..., Process]) -> Process:
    return open_process()


class Writer:
    """Somebody who believes to own a session, and writes on from where it believes the session to be."""

    def __init__(self, journal: Any, session_id: str, *, user_id: str = USER, epoch: int = FIRST_EPOCH) -> None:
        self.journal = journal
        self.session_id = session_id
        self.user_id = user_id
        self.epoch = epoch
        self.seq = 0
        self.turns = 0

    async def create(self, **members: Any) -> "Writer":
        await self.append(SessionCreated(self.user_id, "some-model", **members), turn=None)
        return self

    def make(self, *bodies: Any, turn: str | None = None, **members: Any) -> Append:
        events = tuple(
            Event(self.seq + 1 + at, self.session_id, turn, NOW + timedelta(microseconds=self.seq + at), body)
            for at, body in enumerate(bodies)
        )
        profile = Profile("A title", None, {}) if self.seq == 0 else None
        return Append(self.session_id, self.user_id, self.epoch, self.seq, events, **{"profile": profile, **members})

    async def append(self, *bodies: Any, turn: str | None = None, **members: Any) -> None:
        """Write bodies as the next events; the position moves only when they were taken."""
        await self.journal.append(self.make(*bodies, turn=turn, **members))
        self.seq += len(bodies)

    def accepted(self) -> tuple[str, MessageAccepted]:
        """The next turn's id, and the message that opens it."""
        self.turns += 1
        return f"turn_{self.session_id}_{self.turns}", MessageAccepted(f"msg_{self.turns}", f"message {self.turns}")

    async def accept(self) -> str:
        turn, body = self.accepted()
        await self.append(body, turn=turn)
        return turn

    async def whole_turn(self) -> str:
        turn, body = self.accepted()
        await self.append(
            body, TurnStarted(body.message_id, "some-model"), TurnCompleted("end_turn", 1, Spent()), turn=turn
        )
        return turn

    async def take_over(self, journal: Any = None) -> "Writer":
        """The next owner, as it finds the session."""
        journal = journal or self.journal
        activation = await journal.activate(self.session_id)
        writer = Writer(journal, self.session_id, user_id=activation.user_id, epoch=activation.epoch)
        writer.seq = activation.events[-1].seq
        writer.turns = self.turns + 1000
        return writer


@pytest.fixture
def writer(process: Process) -> Callable[..., Writer]:
    """Writers on the journal of the test's process, or on another one."""

    def make(session_id: str = "sess_1", journal: Any = None, **members: Any) -> Writer:
        return Writer(journal or process.journal, session_id, **members)

    return make


@pytest.fixture
def outcomes() -> Callable[..., Any]:
    """Run calls at once; the errors of those that raised, None for the others, in their order."""

    async def run(*calls: Any) -> list[Exception | None]:
        async def caught(call: Any) -> Exception | None:
            try:
                await call
            except Exception as error:
                return error
            return None

        async with asyncio.timeout(60):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(caught(call)) for call in calls]
        return [task.result() for task in tasks]

    return run
