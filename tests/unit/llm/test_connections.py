"""Connections are reused, limited, and closed when they are old."""

import asyncio

import httpx
import pytest

from actors.core.clock import SystemClock
from actors.llm.connections import ConnectionStack, open_connections


class Connection(httpx.AsyncBaseTransport):
    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False
        self.broken = False
        self.stuck = False

    async def handle_async_request(self, request):
        if self.broken:
            raise httpx.ReadError("broken")
        if self.stuck:
            await asyncio.Event().wait()
        return httpx.Response(200, headers={"number": str(self.number)}, stream=httpx.ByteStream(b"body"))

    async def aclose(self):
        self.closed = True


@pytest.fixture
def made() -> list[Connection]:
    return []


@pytest.fixture
def stack(made, clock) -> ConnectionStack:
    def new() -> Connection:
        made.append(Connection(len(made)))
        return made[-1]

    return ConnectionStack(new, clock=clock, max_in_flight=3, max_idle_s=60)


async def ask(stack: ConnectionStack) -> httpx.Response:
    return await stack.handle_async_request(httpx.Request("GET", "http://model.test"))


async def end(response: httpx.Response) -> None:
    """Read the body, which is what lets its connection be used again."""
    await response.aread()
    await response.aclose()


async def test_one_after_another_share_a_connection(stack, made):
    for _ in range(5):
        response = await ask(stack)
        assert await response.aread() == b"body"
        await response.aclose()
        await response.aclose()
    assert len(made) == 1


async def test_at_once_each_has_its_own_and_the_last_given_back_is_next(stack, made):
    first, second = await ask(stack), await ask(stack)
    assert {first.headers["number"], second.headers["number"]} == {"0", "1"}
    await end(first)
    await end(second)
    assert (await ask(stack)).headers["number"] == "1"
    assert len(made) == 2


async def test_beyond_the_limit_is_an_error_at_once(stack):
    responses = [await ask(stack) for _ in range(3)]
    with pytest.raises(httpx.PoolTimeout):
        await ask(stack)
    await responses[0].aclose()
    await ask(stack)


async def test_a_connection_whose_request_failed_is_closed_and_gives_its_place_back(stack, made):
    await end(await ask(stack))
    for number in range(5):
        made[number].broken = True
        with pytest.raises(httpx.ReadError):
            await ask(stack)
        await end(await ask(stack))
    await stack.aclose()
    assert all(connection.closed for connection in made)


async def test_a_connection_whose_request_was_cancelled_is_not_used_again(stack, made):
    await end(await ask(stack))
    made[0].stuck = True
    asking = asyncio.create_task(ask(stack))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await ask(stack)).headers["number"] == "1"
    await stack.aclose()
    assert made[0].closed


async def test_a_connection_whose_answer_was_not_read_to_the_end_is_not_used_again(stack, made):
    await (await ask(stack)).aclose()
    assert (await ask(stack)).headers["number"] == "1"
    await stack.aclose()
    assert made[0].closed


async def test_connections_that_are_idle_for_long_are_closed(stack, made, clock):
    first, second = await ask(stack), await ask(stack)
    await end(first)
    await end(second)
    clock.advance(61)
    await end(await ask(stack))
    assert [connection.closed for connection in made] == [True, False]


async def test_closing_closes_the_idle_ones_now_and_the_others_when_they_end(stack, made):
    busy, idle = await ask(stack), await ask(stack)
    await end(idle)
    await stack.aclose()
    assert [connection.closed for connection in made] == [False, True]
    await end(busy)
    await stack.aclose()
    assert made[0].closed


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://model.test/v1", None),
        ({"https_proxy": "http://proxy.test:3128"}, "https://model.test/v1", "http://proxy.test:3128"),
        ({"https_proxy": "http://proxy.test:3128"}, "http://model.test/v1", None),
        ({"all_proxy": "http://proxy.test:3128"}, "http://model.test/v1", "http://proxy.test:3128"),
        ({"https_proxy": "http://proxy.test:3128", "no_proxy": "model.test"}, "https://model.test/v1", None),
    ],
)
async def test_the_environments_proxy_is_used(monkeypatch, variables, url, proxy):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked = []

    def transport(**options):
        asked.append(options["proxy"])
        return Connection(0)

    monkeypatch.setattr(httpx, "AsyncHTTPTransport", transport)
    stack = open_connections(httpx.URL(url), clock=SystemClock(), max_in_flight=1)
    await end(await ask(stack))
    await stack.aclose()
    assert asked == [proxy]
