"""An httpx transport that calls an ASGI app in process and streams its answer, as a socket would.

`httpx.ASGITransport` gives the response only when the app has ended, so that it can show neither an
answer that grows nor a reader that goes away.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import httpx

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


_GRACE_S = 0.05


class StreamingASGITransport(httpx.AsyncBaseTransport):
    """Sends requests to `app`. When the client closes the response the app receives `http.disconnect`.

    An app that raises `ConnectionError` is a connection that breaks there: `httpx.ReadError`. Anything
    else that it raises reaches the client unchanged. Lifespan events are not sent.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _Exchange(await request.aread())
        exchange.begin(self._app, _scope(request))
        try:
            start = await exchange.next_message()
        except BaseException:
            await exchange.end()
            raise
        if start is None:
            raise httpx.RemoteProtocolError("the app ended without a response")
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=_Body(exchange))


class _Exchange:
    """One call of the app and the messages that it sent."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._gone = asyncio.Event()
        # One message of room: an app is held back by a slow reader, as by a full socket.
        self._sent: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=1)
        self._task: asyncio.Task[None] | None = None

    def begin(self, app: AsgiApp, scope: Scope) -> None:
        self._task = asyncio.create_task(self._call(app, scope))

    async def next_message(self) -> Message | None:
        """None when the app has ended; raises what the app raised."""
        assert self._task is not None
        message = await self._sent.get()
        if message is None:
            try:
                await self._task
            except ConnectionError as error:
                raise httpx.ReadError(str(error) or "the connection broke") from error
        return message

    async def end(self) -> None:
        """The client has closed. An app that does not end by itself is cancelled."""
        self._gone.set()
        assert self._task is not None
        while not self._sent.empty():
            self._sent.get_nowait()
        if not self._task.done():
            await asyncio.wait([self._task], timeout=_GRACE_S)
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # nobody is left to be told of it

    async def _call(self, app: AsgiApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            if not self._gone.is_set():
                await self._sent.put(None)

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if not self._gone.is_set():
            await self._sent.put(message)


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        whole = False
        while (message := await self._exchange.next_message()) is not None:
            if message.get("body"):
                yield message["body"]
            whole = not message.get("more_body", False)
        if not whole:
            raise httpx.RemoteProtocolError("the app ended in the middle of its body")

    async def aclose(self) -> None:
        await self._exchange.end()


def _scope(request: httpx.Request) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 123),
        "server": (request.url.host, request.url.port),
        "extensions": {},
    }
