"""Requests that are cancelled at any moment, over real sockets: the next one is answered all the same."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from actors.core.clock import SystemClock
from actors.llm.connections import ConnectionStack

MOMENTS = 50
"""Steps of the event loop from a request to beyond the end of its answer: about forty."""

ANSWER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"2\r\nok\r\n" * 3 + b"0\r\n\r\n"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    writers: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for writer in writers:
        writer.close()
    server.close()


@pytest.fixture
def make() -> Callable[[], ConnectionStack]:
    tls = httpx.create_ssl_context()  # once: it takes longer than the rest
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)

    def new() -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(verify=tls, limits=limits)

    return lambda: ConnectionStack(new, clock=SystemClock(), max_in_flight=2, max_idle_s=60)


async def ask(stack: ConnectionStack, url: str) -> bytes:
    request = httpx.Request("GET", url, extensions={"timeout": httpx.Timeout(5).as_dict()})
    response = await stack.handle_async_request(request)
    try:
        return await response.aread()
    finally:
        await response.aclose()


@pytest.mark.parametrize("warm", [True, False], ids=["open connection", "no connection"])
@pytest.mark.parametrize("again_after", [None, 0, 1, 2, 5], ids=lambda steps: f"again after {steps}")
async def test_a_request_that_was_cancelled_at_any_moment_does_not_hold_up_the_next(url, make, warm, again_after):
    for moment in range(MOMENTS):
        stack = make()
        if warm:
            await ask(stack, url)
        asking = asyncio.create_task(ask(stack, url))
        for _ in range(moment):
            await asyncio.sleep(0)
        asking.cancel()
        if again_after is not None:
            for _ in range(again_after):
                await asyncio.sleep(0)
            asking.cancel()
        await asyncio.wait([asking])
        assert await ask(stack, url) == b"okokok", f"cancelled after {moment} steps"
        await stack.aclose()
