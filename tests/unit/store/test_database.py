"""The door to SQL, on SQLite: one transaction each, moments that sort, and no waiting without end."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from actors.core.errors import StoreUnavailable
from actors.store.database import Database, Instant
from actors.store.migrate import HEAD, installed_revision, upgrade

TABLES = sa.MetaData()
THINGS = sa.Table(
    "things",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", Instant),
    sa.Column("n", sa.Integer),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{file}", pool=4, connect_s=1, statement_s=0.2)
    TABLES.create_all(database.engine)
    yield database
    database.close()


def put(number: int, at: datetime | None = None) -> Any:
    return lambda c: c.execute(sa.insert(THINGS).values(id=number, at=at, n=number))


async def numbers(database: Database) -> list[int]:
    return list(await database.read(lambda c: c.execute(sa.select(THINGS.c.id).order_by(THINGS.c.id)).scalars().all()))


async def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        put(1)(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(work)
    assert await numbers(database) == []


async def test_a_constraint_is_not_taken_for_an_outage(database: Database) -> None:
    await database.write(put(1))
    with pytest.raises(IntegrityError):
        await database.write(put(1))


async def test_what_a_read_writes_is_not_kept(database: Database) -> None:
    await database.read(put(1))
    assert await numbers(database) == []


async def test_writes_at_once_do_not_lock_each_other_out(database: Database) -> None:
    def add(connection: sa.Connection) -> None:
        # Read first and write later, which is what deadlocks transactions that begin as readers.
        n = connection.execute(sa.select(sa.func.coalesce(sa.func.max(THINGS.c.id), 0))).scalar_one()
        put(n + 1)(connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(database.write(add))
    assert await numbers(database) == list(range(1, 51))


async def test_reads_go_on_while_a_write_is_under_way(database: Database) -> None:
    await database.write(put(1))
    reading, done = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> None:
        put(2)(connection)
        reading.set()
        assert done.wait(5)

    writing = asyncio.create_task(database.write(slow))
    assert await asyncio.to_thread(reading.wait, 5)
    assert await numbers(database) == [1]
    done.set()
    await writing
    assert await numbers(database) == [1, 2]


async def test_a_locked_file_is_an_outage_that_ends(database: Database, file: Path) -> None:
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await database.write(put(1))
        other.execute("ROLLBACK")
    other.close()
    await database.write(put(1))
    assert await numbers(database) == [1]


async def test_a_caller_that_is_cancelled_does_not_stop_the_commit(database: Database) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> None:
        started.set()
        assert go_on.wait(5)
        put(1)(connection)

    writing = asyncio.create_task(database.write(slow))
    assert await asyncio.to_thread(started.wait, 5)
    writing.cancel()
    await asyncio.wait([writing])
    go_on.set()
    await database.write(put(2))
    assert await numbers(database) == [1, 2]


async def test_commits_survive_a_power_cut(database: Database) -> None:
    def pragmas(connection: sa.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.read(pragmas) == ["wal", 2, 1]
    assert await database.write(pragmas) == ["wal", 2, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1)),
    st.integers(-12, 14),
)
def test_a_moment_comes_back_to_the_microsecond(moment: datetime, hours: int) -> None:
    at = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    kind: Any = Instant()
    bound = kind.process_bind_param(at, None)
    assert kind.process_result_value(bound, None) == at
    assert kind.process_result_value(bound, None).tzinfo is UTC
    later = kind.process_bind_param(at + timedelta(microseconds=1), None)
    assert later == bound + 1


def test_no_moment_is_none() -> None:
    kind: Any = Instant()
    assert kind.process_bind_param(None, None) is None
    assert kind.process_result_value(None, None) is None


def test_migrating_an_empty_database_and_a_migrated_one(file: Path) -> None:
    url = f"sqlite:///{file}"
    assert installed_revision(url) is None
    assert upgrade(url) is None
    assert upgrade(url) == HEAD == installed_revision(url)


def test_processes_that_start_at_once_all_get_in(tmp_path: Path) -> None:
    """A fresh database, and several processes that open it in the same moment."""
    fresh = tmp_path / "fresh.db"
    upgrade(f"sqlite:///{fresh}")
    connection = sqlite3.connect(fresh)
    mode = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()
    # Changing the mode takes an exclusive lock that does not wait for its turn: it is to be done before.
    assert mode == ("wal",)
    barrier = threading.Barrier(6)

    def start(_: int) -> int:
        database = Database(f"sqlite:///{fresh}", pool=2, connect_s=1, statement_s=5)
        try:
            barrier.wait()
            with database.engine.begin() as opened:
                return opened.execute(sa.text("SELECT count(*) FROM sessions")).scalar_one()
        finally:
            database.close()

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(start, range(6))) == [0] * 6
