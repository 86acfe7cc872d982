"""The ledger on every backend: SQLite in a file, PostgreSQL, and a real Redis before each of the two."""

import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listen

from actors.ledger.alerts import Watch
from actors.ledger.base import Bucket, Ledger, Wanted
from actors.ledger.redis import RedisLedger
from actors.ledger.sql import SqlLedger
from actors.ledger.thresholds import Thresholds
from actors.store.database import Database
from actors.testing import FakeClock
from actors.testing.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One for the tests that leave it alone."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    made: list[RedisServer] = []

    def make(**options: Any) -> RedisServer:
        folder = tmp_path / f"redis{len(made)}"
        folder.mkdir()
        made.append(RedisServer(folder, **options))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.stop()


THRESHOLDS = ("hour:30%:warning", "hour:60%:critical", "hour:0.000090:emergency")
"""Of an hour's bucket: 30, 60 and 90 micro-dollars."""


class Process:
    """A process's ledger over a database that others share, and the tools to look into it."""

    def __init__(self, url: str, redis_url: str | None, clock: FakeClock) -> None:
        self.clock = clock
        self.database = Database(url, pool=10, connect_s=5, statement_s=20)
        if self.database.is_sqlite:
            # Tests of logic need not wait for the disk.
            listen(self.database.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
        self.watch = Watch(Thresholds.of(THRESHOLDS, {"hour": 100}), clock)
        self.book = SqlLedger(self.database, self.watch)
        self.redis = None if redis_url is None else RedisLedger(redis_url, self.book, clock=clock)
        self.ledger: Ledger = self.redis or self.book

    async def close(self) -> None:
        if self.redis is not None:
            await self.redis.aclose()
        self.database.close()

    def wanted(self, attempt: str, amount: int, *names: str, limit: int | None = 100, least: int | None = None) -> Any:
        buckets = tuple(Bucket(f"user:{name}:t", limit) for name in names or ("u",))
        until = self.clock.now() + timedelta(minutes=10)
        return Wanted(attempt, amount, amount if least is None else least, buckets, until)


Open = Callable[[], Process]


@pytest.fixture(params=["sqlite", "postgresql", "redis+sqlite", "redis+postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def address(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database of this test's own."""
    if backend.endswith("postgresql"):
        return request.getfixturevalue("new_postgresql")()
    shutil.copy(request.getfixturevalue("migrated"), tmp_path / "greenroom.db")
    return f"sqlite:///{tmp_path / 'greenroom.db'}"


@pytest.fixture
async def open_process(backend: str, address: str, request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Processes over one database, each with connections of its own."""
    redis_url = None
    if backend.startswith("redis"):
        # Each test in a numbered database that was emptied for it.
        server: RedisServer = request.getfixturevalue("shared_redis")
        redis_url = server.url
        _command(server.port, b"FLUSHALL\r\n")
    clock = FakeClock()
    async with AsyncExitStack() as stack:

        def open_process() -> Process:
            process = Process(address, redis_url, clock)
            stack.push_async_callback(process.close)
            return process

        yield open_process


def _command(port: int, command: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(command)
        assert connection.recv(64).startswith(b"+OK")


@pytest.fixture
def empty_redis(shared_redis: RedisServer) -> Callable[[], None]:
    return lambda: _command(shared_redis.port, b"FLUSHALL\r\n")


@pytest.fixture
def process(open_process: Open) -> Process:
    return open_process()


@pytest.fixture
async def over(tmp_path: Path, migrated: Path) -> AsyncIterator[Callable[[str | None], Process]]:
    """Processes over one SQLite file and the Redis that is named."""
    shutil.copy(migrated, tmp_path / "over.db")
    clock, made = FakeClock(), list[Process]()

    def make(redis_url: str | None) -> Process:
        made.append(Process(f"sqlite:///{tmp_path / 'over.db'}", redis_url, clock))
        return made[-1]

    yield make
    for process in made:
        await process.close()


@pytest.fixture
def make_process() -> Callable[[str, str | None], Process]:
    """Processes that the test closes itself."""
    return lambda address, redis_url: Process(address, redis_url, FakeClock())
