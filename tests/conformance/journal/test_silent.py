"""A connection that falls silent, as when a router forgets it: the next call gets another one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from actors.core.errors import StoreUnavailable
from actors.store.database import Database

STATEMENT_S = 0.5
POOL = 2


class Router:
    """Passes TCP connections on to the server's Unix socket. Those that were made before `lose` go nowhere."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._lost = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def lose(self) -> None:
        self._lost += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        born = self._lost
        beyond, back = await asyncio.open_unix_connection(self._socket)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back, born))
                group.create_task(self._pass(beyond, writer, born))
        except* OSError:
            pass  # either side is gone: so is the other, below
        finally:
            writer.close()
            back.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, born: int) -> None:
        while data := await reader.read(65536):
            if born == self._lost:
                writer.write(data)
                await writer.drain()
        writer.close()

    def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()


@pytest.fixture
async def routed(postgres: Any) -> AsyncIterator[tuple[Router, Database]]:
    router = Router(str(postgres.folder / ".s.PGSQL.5432"))
    listening = await asyncio.start_server(router.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    database = Database(url, pool=POOL, connect_s=2, statement_s=STATEMENT_S)
    yield router, database
    router.close()
    listening.close()
    await asyncio.to_thread(database.close)


def one(connection: Any) -> int:
    return connection.execute(text("SELECT 1")).scalar_one()


async def test_a_call_after_silence_gets_a_new_connection(routed: tuple[Router, Database], outcomes: Any) -> None:
    router, database = routed
    assert await outcomes(*(database.read(one) for _ in range(POOL))) == [None] * POOL
    router.lose()

    errors = await outcomes(*(database.read(one) for _ in range(POOL)))
    assert StoreUnavailable in {type(error) for error in errors}

    async with asyncio.timeout(5):
        assert [await database.read(one) for _ in range(POOL + 1)] == [1] * (POOL + 1)


async def test_a_server_that_became_read_only_is_unavailable(routed: tuple[Router, Database]) -> None:
    _, database = routed

    def write(connection: Any) -> None:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("CREATE TABLE never (id int)"))

    with pytest.raises(StoreUnavailable):
        await database.write(write)
    assert await database.read(one) == 1
