"""MemoryActor: the one writer of the vectors, and the embedder. A shell round `memory/lance.py`."""

import asyncio
from contextlib import AsyncExitStack

import ray

from .core import telemetry
from .core.opened import Opened
from .core.settings import Settings
from .memory.base import Memory, MemoryStore, Recollection


@ray.remote
class MemoryActor:
    """See `MemoryStore` for what the methods promise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._memories = Opened(self._open)

    async def _open(self) -> MemoryStore:
        telemetry.configure_logging(self._settings.log_level)
        # LanceDB takes two seconds of a core to import: the cluster is ready before, and the first use pays.
        from .wiring.memory import open_memories  # noqa: PLC0415

        return await self._stack.enter_async_context(open_memories(self._settings))

    async def ping(self) -> bool:
        """True once the process is there. LanceDB and the embedder load at the first use, or by `load`."""
        return True

    async def load(self) -> None:
        await self._memories.get()

    async def remember(self, memory: Memory) -> None:
        await (await self._memories.get()).remember(memory)

    async def recall(self, user_id: str, query: str, *, limit: int) -> tuple[Recollection, ...]:
        return await (await self._memories.get()).recall(user_id, query, limit=limit)

    async def watch(self, wait_s: float) -> str:
        """The id of this process's machine, after so long: a call that fails as soon as the process ends."""
        await asyncio.sleep(wait_s)
        return ray.get_runtime_context().get_node_id()

    async def metrics(self) -> bytes:
        return telemetry.exposition()

    async def drain(self) -> None:
        await self._stack.aclose()
