"""The memories of the cluster as a typed proxy over Ray handles."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from .core.errors import MemoryUnavailable
from .memory.base import Memory, Recollection
from .ray_errors import UNMET, ActorGone, translated
from .register import MEMORY, HeadAway, NotRegistered, Register

MEET_S = 5.0

T = TypeVar("T")


class RemoteMemories:
    """`MemoryStore` in the memory actor."""

    def __init__(self, namespace: str, *, timeout_s: float) -> None:
        self._register = Register(namespace)
        self._timeout_s = timeout_s

    async def remember(self, memory: Memory) -> None:
        await self._call(lambda actor: actor.remember.remote(memory))

    async def recall(self, user_id: str, query: str, *, limit: int = 5) -> tuple[Recollection, ...]:
        return await self._call(lambda actor: actor.recall.remote(user_id, query, limit=limit))

    async def meet(self) -> None:
        """Make sure that it can be called without the head of the cluster, should it go away."""
        with suppress(*UNMET, ActorGone, TimeoutError):
            async with translated(ActorGone), asyncio.timeout(MEET_S):
                await self._register.meet(MEMORY, lambda actor: actor.ping.remote())

    async def ping(self) -> None:
        """Raises `MemoryUnavailable` when its process does not answer."""
        await self._call(lambda actor: actor.ping.remote())

    async def _call(self, call: Callable[[Any], Awaitable[T]]) -> T:
        try:
            async with translated(ActorGone), asyncio.timeout(self._timeout_s):
                return await call(await self._register.find(MEMORY))
        except ActorGone as error:
            self._register.doubt(MEMORY)
            raise MemoryUnavailable(error.message) from error
        except TimeoutError as error:
            self._register.doubt(MEMORY)
            raise MemoryUnavailable(f"the memory actor did not answer within {self._timeout_s:g} s") from error
        except NotRegistered as error:
            raise MemoryUnavailable("the memory actor is not running") from error
        except HeadAway as error:
            raise MemoryUnavailable(f"the memory actor cannot be found: {error}") from error
