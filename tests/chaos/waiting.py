"""Waiting for something to become true, with a deadline."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")


async def eventually(question: Callable[[], Awaitable[T] | T], *, within_s: float, every_s: float = 0.1) -> T:
    """Ask again and again until the answer is true. Returns the last answer, true or not."""
    give_up = asyncio.get_running_loop().time() + within_s
    while True:
        answer = question()
        told = cast("T", await answer if inspect.isawaitable(answer) else answer)
        if told or asyncio.get_running_loop().time() > give_up:
            return told
        await asyncio.sleep(every_s)
