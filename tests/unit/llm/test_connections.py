"""Connections are reused, limited, and closed when they are old."""

import httpx
import pytest

from actors.core.clock import SystemClock
from actors.llm.connections import ConnectionStack, open_connections


class Connection(httpx.AsyncBaseTransport):
    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False
        self.broken = False

    async def handle_async_request(self, request):
        if self.broken:
            raise httpx.ReadError("broken")
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
    await first.aclose()
    await second.aclose()
    assert (await ask(stack)).headers["number"] == "1"
    assert len(made) == 2


async def test_beyond_the_limit_is_an_error_at_once(stack):
    responses = [await ask(stack) for _ in range(3)]
    with pytest.raises(httpx.PoolTimeout):
        await ask(stack)
    await responses[0].aclose()
    await ask(stack)


async def test_a_failed_request_gives_its_place_back(stack, made):
    await (await ask(stack)).aclose()
    made[0].broken = True
    for _ in range(5):
        with pytest.raises(httpx.ReadError):
            await ask(stack)


async def test_connections_that_are_idle_for_long_are_closed(stack, made, clock):
    first, second = await ask(stack), await ask(stack)
    await first.aclose()
    await second.aclose()
    clock.advance(61)
    await (await ask(stack)).aclose()
    assert [connection.closed for connection in made] == [True, False]


async def test_closing_closes_the_idle_ones_now_and_the_others_when_they_end(stack, made):
    busy, idle = await ask(stack), await ask(stack)
    await idle.aclose()
    await stack.aclose()
    assert [connection.closed for connection in made] == [False, True]
    await busy.aclose()
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
    await (await ask(stack)).aclose()
    await stack.aclose()
    assert asked == [proxy]
