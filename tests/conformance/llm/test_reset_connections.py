"""A model server that resets each connection as soon as it is made: an error of the connection, and no other."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
import uvloop

from actors.core.clock import SystemClock
from actors.llm.connections import ConnectionStack

AT_ONCE = 20
ROUNDS = 20
"""Of four hundred requests about thirty meet the moment in which uvloop has no socket any more."""

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE) as server:

        def reset() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

        thread = threading.Thread(target=reset)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_connection_that_is_reset_at_once(url: str, run: Callable[[Coroutine[Any, Any, list[object]]], list[object]]):
    """Ray's asynchronous actors run on uvloop."""

    async def ask_often() -> list[object]:
        tls = httpx.create_ssl_context()
        stack = ConnectionStack(
            lambda: httpx.AsyncHTTPTransport(verify=tls), clock=SystemClock(), max_in_flight=AT_ONCE, max_idle_s=60
        )
        told: list[object] = []
        for _ in range(ROUNDS):
            told += await asyncio.gather(*(_ask(stack, url) for _ in range(AT_ONCE)), return_exceptions=True)
        await stack.aclose()
        return told

    told = run(ask_often())

    assert len(told) == AT_ONCE * ROUNDS
    assert [error for error in told if not isinstance(error, httpx.TransportError)] == []


async def _ask(stack: ConnectionStack, url: str) -> httpx.Response:
    request = httpx.Request("GET", url, extensions={"timeout": httpx.Timeout(5).as_dict()})
    return await stack.handle_async_request(request)
