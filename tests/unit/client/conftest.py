"""A server that is scripted answer by answer, and both clients driven the same way."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from serve_app.client import AsyncClient, Client, Item

Answer = httpx.Response | Exception


def event(seq: int, kind: str, *, turn: str | None = "turn_1", **members: Any) -> str:
    data = {"type": kind, "seq": seq, "session_id": "sess_1", "turn_id": turn, "created_at": "now", **members}
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def delta(text: str, offset: int = 0, *, turn: str = "turn_1") -> str:
    data = {"type": "message.delta", "turn_id": turn, "message_id": "msg_1", "offset": offset, "text": text}
    return f"event: message.delta\ndata: {json.dumps(data)}\n\n"


def error(code: str, *, retryable: bool = True, **members: Any) -> str:
    data = {"type": "error", "code": code, "message": "no", "retryable": retryable, **members}
    return f"event: error\ndata: {json.dumps(data)}\n\n"


class Frames(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream of server-sent events that ends, or breaks when `breaks` is set."""

    def __init__(self, *frames: str, breaks: bool) -> None:
        self._frames = ("retry: 1000\n\n", ": ping\n\n", *frames)
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from (frame.encode() for frame in self._frames)
        if self._breaks:
            raise httpx.ReadError("connection reset")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def stream(*frames: str, breaks: bool = False) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Frames(*frames, breaks=breaks))


def problem(status: int, code: str, detail: str = "no", **members: Any) -> httpx.Response:
    body = {"type": "about:blank", "title": "x", "status": status, "detail": detail, "code": code, **members}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


@dataclass
class Server:
    """Gives the answers in their order and keeps what it was asked."""

    answers: list[Answer]
    asked: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Driver:
    """Calls a method of one of the twins and gives its result, whichever twin it is."""

    is_async: bool
    server: Server | None = None

    def serve(self, *answers: Answer) -> Server:
        self.server = Server(list(answers))
        return self.server

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._run(lambda client: getattr(client, method)(*args, **kwargs))

    def read(self, method: str, *args: Any, limit: int = 100, max_resumes: int = 3, **kwargs: Any) -> list[Item]:
        """What a stream yields, up to `limit` items; the stream is closed then."""
        found: list[Item] = []

        def follow(client: Client) -> None:
            items = getattr(client, method)(*args, **kwargs)
            for item in items:
                found.append(item)
                if len(found) == limit:
                    items.close()
                    return

        async def afollow(client: AsyncClient) -> None:
            items = getattr(client, method)(*args, **kwargs)
            async for item in items:
                found.append(item)
                if len(found) == limit:
                    await items.aclose()
                    return

        self._run(afollow if self.is_async else follow, max_resumes=max_resumes)
        return found

    def _run(self, use: Callable[[Any], Any], max_resumes: int = 3) -> Any:
        assert self.server is not None
        transport = httpx.MockTransport(self.server)
        options: Any = {"transport": transport, "resume_delay_s": 0.0, "max_resumes": max_resumes}
        if not self.is_async:
            with Client("http://server", "grk_key", **options) as client:
                return use(client)

        async def run() -> Any:
            async with AsyncClient("http://server", "grk_key", **options) as client:
                return await use(client)

        return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(is_async=request.param == "async")


class Wire:
    """The makers of what travels, for tests, which cannot import a conftest."""

    event = staticmethod(event)
    delta = staticmethod(delta)
    error = staticmethod(error)
    stream = staticmethod(stream)
    problem = staticmethod(problem)


@pytest.fixture
def wire() -> Wire:
    return Wire()
