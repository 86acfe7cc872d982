"""Connections to the model server: an idle one is found at once, however many are open.

httpcore's own pool looks at all its connections, and at every pair of idle ones, for each request; at
200 streams that is more work than the request itself. Here each connection is a pool of one.
"""

import asyncio
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import httpx

from ..core.clock import Clock

_MAX_IDLE_S = 60.0
_CLOSE_S = 5.0

NewTransport = Callable[[], httpx.AsyncBaseTransport]


class ConnectionStack(httpx.AsyncBaseTransport):
    """Uses the connection that was given back last, so that the others can grow old and be closed.

    `new` makes a transport that holds one connection at most. More than `max_in_flight` requests at
    once raise `httpx.PoolTimeout`. Closing is the caller's: `aclose` closes idle connections, those in
    use close when their response is closed.
    """

    def __init__(self, new: NewTransport, *, clock: Clock, max_in_flight: int, max_idle_s: float) -> None:
        self._new = new
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._max_idle_s = max_idle_s
        self._in_flight = 0
        self._idle: deque[tuple[float, httpx.AsyncBaseTransport]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._in_flight >= self._max_in_flight:
            raise httpx.PoolTimeout(f"{self._in_flight} requests are in flight, which is the limit")
        connection = self._idle.pop()[1] if self._idle else self._new()
        self._in_flight += 1
        try:
            response = await _send(connection, request)
        except BaseException:
            self.discard(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LeasedStream(response.stream, connection, self)
        return response

    async def aclose(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop()[1].aclose()
        if self._closing:
            await asyncio.wait(self._closing)

    async def give_back(self, connection: httpx.AsyncBaseTransport) -> None:
        """Its response was read to the end and closed."""
        if self._closed:
            self.discard(connection)
            return
        self._in_flight -= 1
        now = self._clock.monotonic()
        self._idle.append((now, connection))
        if now - self._idle[0][0] > self._max_idle_s:
            await self._idle.popleft()[1].aclose()

    def discard(self, connection: httpx.AsyncBaseTransport, body: httpx.AsyncByteStream | None = None) -> None:
        """A request on it was interrupted.

        It must not be used again: a pool whose request is cancelled at the wrong moment keeps a connection
        that it never opened, and lets every later request wait for it. It is closed in a task of its own,
        because the caller may be cancelled once more.
        """
        self._in_flight -= 1
        task = asyncio.create_task(_close(connection, body), name="close a connection to the model server")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _send(connection: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.Response:
    try:
        return await connection.handle_async_request(request)
    except AttributeError as error:
        # Before anything is sent, anyio asks the new socket for its peer. Of one that the server has closed by then
        # uvloop has no socket left to ask.
        if error.name != "getpeername":
            raise
        raise httpx.ConnectError("the connection was closed as soon as it was made", request=request) from error


async def _close(connection: httpx.AsyncBaseTransport, body: httpx.AsyncByteStream | None) -> None:
    with suppress(httpx.HTTPError, OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            try:
                if body is not None:
                    await body.aclose()
            finally:
                await connection.aclose()


class _LeasedStream(httpx.AsyncByteStream):
    """A body that ends the use of its connection when it is closed."""

    def __init__(
        self, body: httpx.AsyncByteStream, connection: httpx.AsyncBaseTransport, stack: ConnectionStack
    ) -> None:
        self._body = body
        self._connection = connection
        self._stack = stack
        self._whole = False
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._body:
            yield piece
        self._whole = True

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._whole:
            self._stack.discard(self._connection, self._body)
            return
        try:
            await self._body.aclose()
        except BaseException:
            self._stack.discard(self._connection)
            raise
        await self._stack.give_back(self._connection)


def open_connections(url: httpx.URL, *, clock: Clock, max_in_flight: int) -> ConnectionStack:
    """Connections to the host of `url`, through the proxy that the environment names for it, if any."""
    tls = httpx.create_ssl_context()
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_MAX_IDLE_S)
    proxy = _environment_proxy(url)
    return ConnectionStack(
        lambda: httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=proxy),
        clock=clock,
        max_in_flight=max_in_flight,
        max_idle_s=_MAX_IDLE_S,
    )


def _environment_proxy(url: httpx.URL) -> str | None:
    """What HTTPS_PROXY, ALL_PROXY and NO_PROXY say, as httpx reads them when it makes its own transport."""
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
