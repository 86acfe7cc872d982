"""A command that somebody waits for: what it prints as it comes, and its end when nobody waits any more."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

from starlette.types import Receive

from actors.sandbox.base import ExecResult, OnOutput

Start: TypeAlias = Callable[[OnOutput], Awaitable[ExecResult]]


class ClientGone(Exception):
    """Nobody reads the answer. Never leaves the routes."""


async def followed(
    start: Start, *, receive: Receive, check: Callable[[], Awaitable[None]], heartbeat_s: float
) -> AsyncGenerator[str | ExecResult]:
    """What the command prints, an empty string after a while without any, and its result at the end.

    Closing this kills the command, and so does a client that goes away (`ClientGone`), or a `check` that raises: it is
    asked every `heartbeat_s`.
    """
    printed: list[str] = []
    news = asyncio.Event()

    def take(text: str) -> None:
        printed.append(text)
        news.set()

    now = asyncio.get_running_loop().time
    command = asyncio.ensure_future(start(take))
    gone = asyncio.ensure_future(_disconnected(receive))
    for task in (command, gone):
        task.add_done_callback(lambda _: news.set())
    checked = now()
    try:
        while not command.done():
            await _within(heartbeat_s, news)
            news.clear()
            if gone.done() and not command.done():
                raise ClientGone
            if now() >= checked + heartbeat_s:
                await check()
                checked = now()
            text = "".join(printed)
            printed.clear()
            if text or not command.done():
                yield text
        if text := "".join(printed):
            yield text
        yield command.result()
    finally:
        await _ended(command, gone)


async def _disconnected(receive: Receive) -> None:
    """The body was read: the next thing that is heard of a client is that it went away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _within(seconds: float, event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def _ended(*tasks: asyncio.Future[ExecResult] | asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # whoever was to be told of it is gone, or was told
