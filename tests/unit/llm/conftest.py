"""A model server made of bytes: each request gets the next response of a list, without sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from actors.core.errors import GreenroomError
from actors.core.messages import UserMessage
from actors.llm.base import Answer, Began, ModelRequest, ReasoningText, TextDelta
from actors.llm.deadlines import Timeouts
from actors.llm.openai import OpenAIClient
from actors.llm.retries import RetryPolicy
from actors.testing import FakeClock


class Pieces(httpx.AsyncByteStream):
    """A body that sends bytes, raises exceptions and waits for events or awaitables, in order."""

    def __init__(self, steps):
        self.steps = steps
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, bytes):
                yield step
            else:
                await step()

    async def aclose(self) -> None:
        self.closed = True


class Outcome:
    """What a stream gave: its deltas, then an answer or an error."""

    def __init__(self):
        self.items = []
        self.began: list[str] = []
        self.answer: Answer | None = None
        self.error: GreenroomError | None = None

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(item.text for item in self.items if isinstance(item, ReasoningText))


class Upstream:
    """The responses to come and the requests that came. A response may be an exception."""

    def __init__(self):
        self.responses = []
        self.requests: list[httpx.Request] = []
        self.bodies: list[Pieces] = []

    def stream(self, *steps, **headers):
        """A response with status 200 whose body is the steps."""
        self.bodies.append(Pieces(steps))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.responses.append(
            httpx.Response(200, headers={"content-type": "text/event-stream", **named}, stream=self.bodies[-1])
        )

    def json(self, status, body, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.responses.append(httpx.Response(status, json=body, headers=named))

    def fail(self, error):
        self.responses.append(error)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.responses, f"an unexpected request number {len(self.requests)}: {request.url}"
        response = self.responses.pop(0)
        if callable(response):
            response = await response()
        if isinstance(response, BaseException):
            raise response
        return response

    def sent(self, number: int = -1) -> dict:
        return json.loads(self.requests[number].content)


@pytest.fixture
def event() -> Callable[..., bytes]:
    """One server-sent event of a chunk: `event(content="Hi")`, `event({…the whole chunk…})`."""

    def make(chunk=None, *, finish=None, native=None, usage=None, **delta) -> bytes:
        if chunk is None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            if native:
                choice["native_finish_reason"] = native
            chunk = {"id": "gen-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
            if usage is not None:
                chunk["usage"] = usage
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()

    return make


@pytest.fixture
def whole(event) -> list[bytes]:
    """A documented stream: comments, two deltas, the finish, usage after it, the end."""
    usage = {"prompt_tokens": 13, "completion_tokens": 34, "total_tokens": 47, "cost": 0.0000224}
    return [
        b": OPENROUTER PROCESSING\n\n",
        event(role="assistant", content=""),
        event(content="Hel"),
        event(content="lo"),
        event(finish="stop", content=""),
        event({"id": "gen-1", "choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def make_client(upstream, clock):
    """A client of the upstream on the fake clock, with waits that are not spread by chance."""
    clients = []

    def make(**options) -> OpenAIClient:
        settings = {
            "base_url": "http://model.test/v1",
            "api_key": "sk-secret",
            "default_model": "m",
            "clock": clock,
            "timeouts": Timeouts(connect_s=5, first_token_s=60, idle_s=30, total_s=240),
            "retries": RetryPolicy(random=lambda: 1.0),
            "transport": httpx.MockTransport(upstream),
        }
        client = OpenAIClient(**{**settings, **options})
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(make_client) -> OpenAIClient:
    return make_client()


@pytest.fixture
def drive(clock) -> Callable[[Awaitable], Awaitable]:
    """Run something to its end, moving the clock by half a second whenever it does not go on by itself."""

    async def run(awaitable, *, within_s: float = 1000.0):
        task = asyncio.ensure_future(awaitable)
        limit = clock.monotonic() + within_s
        while clock.monotonic() < limit:
            for _ in range(30):
                await asyncio.sleep(0)
                if task.done():
                    return await task
            clock.advance(0.5)
        task.cancel()
        raise AssertionError(f"not done within {within_s} s of the fake clock")

    return run


@pytest.fixture
def ask(client, drive) -> Callable[..., Awaitable[Outcome]]:
    """Ask the client and collect what comes."""

    async def collect(outcome, asked, request):
        try:
            async for item in asked.stream(request):
                if isinstance(item, Began):
                    outcome.began.append(item.generation_id)
                elif isinstance(item, Answer):
                    assert outcome.answer is None
                    outcome.answer = item
                else:
                    outcome.items.append(item)
        except GreenroomError as error:
            outcome.error = error
        return outcome

    async def run(asked=None, request=None) -> Outcome:
        request = request or ModelRequest("m", (UserMessage("hi"),))
        return await drive(collect(Outcome(), asked or client, request))

    return run
