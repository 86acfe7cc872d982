"""One door to SQL, for SQLite (the embedded default) and PostgreSQL alike.

SQLAlchemy Core runs in worker threads, so the event loop never waits for a disk. Writes are one
transaction each. SQLite has a single writer, so writes have one thread of their own there, and take
the write lock at BEGIN: two transactions that read first and write later cannot deadlock.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Connection, Dialect, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.types import TypeDecorator

from ..core.errors import StoreUnavailable

METADATA = MetaData()
"""Every table of every feature. The schema that is installed comes from the migrations; a test compares."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_GIVEN_UP = 3
"""So many pools of threads may wait for connections that say nothing, beside the one in use."""

_FAILING_OVER = frozenset({"25006", "XX000"})
"""SQLSTATEs of a server that became a standby under its connections: read-only, or in between."""

T = TypeVar("T")


class Instant(TypeDecorator[datetime]):
    """A moment as whole microseconds since 1970 in UTC: the same on every database, and it sorts."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else _EPOCH + value * _MICROSECOND


class Database:
    """A pool of connections and the threads that use them. One per process."""

    def __init__(self, url: str, *, pool: int, connect_s: float, statement_s: float) -> None:
        """`pool` connections at most; a statement or a wait for a connection fails after its seconds."""
        self.engine = _engine(url, pool=pool, connect_s=connect_s, statement_s=statement_s)
        self._reading = self.engine.execution_options(read_only=True)
        self._answer_s = statement_s * 1.1 + 1
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        # More threads than cores gain nothing on SQLite; on PostgreSQL a thread mostly waits for the server.
        self._width = 4 if self.is_sqlite else pool
        self._running: set[Future[Any]] = set()
        self._readers = self._threads()
        self._writers = ThreadPoolExecutor(1, thread_name_prefix="sql-write") if self.is_sqlite else self._readers

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a thread with a connection; what it writes is rolled back."""
        return await self._run(self._readers, self._reading.connect, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a thread within one transaction, committed when it returns.

        Raises `StoreUnavailable` when the database does not answer in time; then nothing says whether
        a commit that was under way took place.
        """
        return await self._run(self._writers, self.engine.begin, work)

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        connect: Callable[[], AbstractContextManager[Connection]],
        work: Callable[[Connection], T],
    ) -> T:
        def run() -> T:
            with connect() as connection:
                return work(connection)

        try:
            # The database's own timeouts end a slow statement; this one, a server that says nothing at all.
            async with asyncio.timeout(self._answer_s):
                return await asyncio.wrap_future(self._submit(threads, run))
        except TimeoutError as error:
            self._give_up(threads)
            raise StoreUnavailable(f"the database did not answer within {self._answer_s:g} s") from error
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            raise StoreUnavailable(f"the database does not answer: {_reason(error)}") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise StoreUnavailable(f"the database went away: {_reason(error)}") from error
            if getattr(error.orig, "sqlstate", None) in _FAILING_OVER:
                self.engine.dispose()  # the others lead to the same server
                raise StoreUnavailable(f"the database is failing over: {_reason(error)}") from error
            raise

    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._width, thread_name_prefix="sql-read")

    def _submit(self, threads: ThreadPoolExecutor, run: Callable[[], T]) -> Future[T]:
        future = threads.submit(run)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _give_up(self, threads: ThreadPoolExecutor) -> None:
        """Leave threads that a silent connection may hold, and take new ones with new connections.

        The old ones end when the kernel gives their connections up. Until then only so many are left behind.
        """
        held = sum(future.running() for future in tuple(self._running))
        if self.is_sqlite or threads is not self._readers or held > self._width * _GIVEN_UP:
            return
        self._readers = self._writers = self._threads()
        threads.shutdown(wait=False)
        self.engine.dispose()

    def close(self) -> None:
        """Let running work end, then close every connection."""
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _engine(url: str, *, pool: int, connect_s: float, statement_s: float) -> Engine:
    if make_url(url).get_backend_name() == "sqlite":
        return _sqlite_engine(url, statement_s=statement_s)
    return create_engine(
        url,
        pool_size=pool,
        max_overflow=0,
        pool_timeout=connect_s,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": max(1, round(connect_s)),
            "options": f"-c statement_timeout={round(statement_s * 1000)}",
            "application_name": "greenroom",
            **_liveness(statement_s),
        },
    )


def _liveness(statement_s: float) -> dict[str, int]:
    """How soon the kernel ends a connection whose other side is silent: about as long as a statement may take."""
    idle = max(1, round(statement_s / 2))
    return {
        "keepalives": 1,
        "keepalives_idle": idle,
        "keepalives_interval": max(1, round(statement_s / 6)),
        "keepalives_count": 3,
        "tcp_user_timeout": max(1000, round(statement_s * 1000)),
    }


def _sqlite_engine(url: str, *, statement_s: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": statement_s, "check_same_thread": False})

    # SQLAlchemy calls these listeners by the names of their events.
    @event.listens_for(engine, "connect")
    def _configure(connection: Any, record: Any) -> None:  # pyright: ignore[reportUnusedFunction] # noqa: ARG001
        # FULL makes a commit survive a power cut, not only a crash of the process: promise P1.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        reading = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
