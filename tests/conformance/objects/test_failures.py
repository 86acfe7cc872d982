"""Stores that are away, silent, broken or closed to us: one kind of error, in time, that says what would mend it."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from actors.core.errors import InvalidInput, StoreUnavailable
from actors.store.objects import ObjectStore
from actors.store.obstore_objects import open_objects
from actors.testing.s3 import BUCKET, S3Server

TIMEOUT_S = 2.0


async def chunks() -> AsyncIterator[bytes]:
    yield b"x"


async def read_all(store: ObjectStore) -> list[bytes]:
    return [piece async for piece in store.stream("a")]


CALLS: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "put": lambda store: store.put("a", b"x"),
    "create": lambda store: store.put("a", b"x", create=True),
    "upload": lambda store: store.upload("a", chunks(), within_s=TIMEOUT_S),
    "get": lambda store: store.get("a"),
    "stream": read_all,
    "delete": lambda store: store.delete("a"),
    "list": lambda store: store.list("a"),
}


@pytest.fixture(params=list(CALLS))
def call(request: pytest.FixtureRequest) -> Callable[[ObjectStore], Awaitable[object]]:
    return CALLS[request.param]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in S3Server.environment.items():
        monkeypatch.setenv(name, value)


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[ObjectStore, list[bytes]]]:
    """A store whose server gives one answer to all requests, or none ever; and the requests' first lines."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                seen.append(line)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-l")), 0
                )
                await reader.readexactly(length)
                if answer is None:
                    await asyncio.Event().wait()
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield s3_at(f"http://127.0.0.1:{port}"), seen
    finally:
        listening.close()


def s3_at(endpoint: str) -> ObjectStore:
    return open_objects(f"s3://{BUCKET}", endpoint=endpoint, allow_http=True, timeout_s=TIMEOUT_S)


async def failure(call: Callable[[ObjectStore], Awaitable[object]], store: ObjectStore) -> StoreUnavailable:
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as raised:
        await call(store)
    assert time.monotonic() - started < TIMEOUT_S + 3
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), again.message) == (StoreUnavailable, raised.value.message)
    assert "\n" not in again.message
    return raised.value


async def test_a_server_that_is_not_there(call: Callable[[ObjectStore], Awaitable[object]]) -> None:
    error = await failure(call, s3_at("http://127.0.0.1:9"))
    assert "GREENROOM_OBJECT_STORE_ENDPOINT" in error.message


async def test_a_server_that_says_nothing(call: Callable[[ObjectStore], Awaitable[object]]) -> None:
    async with server(None) as (store, _):
        error = await failure(call, store)
    assert "GREENROOM_OBJECT_STORE_URL" in error.message


async def test_a_server_that_is_broken_is_asked_a_few_times(call: Callable[[ObjectStore], Awaitable[object]]) -> None:
    async with server(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n") as (store, seen):
        await failure(call, store)
    assert 1 < len(seen) <= 4


async def test_a_server_that_refuses_us(call: Callable[[ObjectStore], Awaitable[object]]) -> None:
    async with server(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n") as (store, seen):
        error = await failure(call, store)
    assert "AWS_ACCESS_KEY_ID" in error.message
    assert len(seen) == 1


async def test_a_bucket_that_is_not_there_is_no_empty_one(
    call: Callable[[ObjectStore], Awaitable[object]], s3: S3Server
) -> None:
    error = await failure(call, open_objects("s3://missing", endpoint=s3.endpoint, allow_http=True))
    assert "bucket" in error.message


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    store = open_objects(str(tmp_path / "objects"))
    (tmp_path / "objects" / "a").write_text("a file where a folder must be")
    with pytest.raises(StoreUnavailable, match="can be written"):
        await store.put("a/b", b"x")


async def test_plain_http_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(InvalidInput, match="GREENROOM_OBJECT_STORE_ALLOW_HTTP"):
        open_objects("s3://bucket", endpoint="http://127.0.0.1:9000")


@pytest.mark.parametrize("url", ["ftp://host/path", "http://host/bucket", "gs://bucket"])
async def test_an_address_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="memory://"):
        open_objects(url)
