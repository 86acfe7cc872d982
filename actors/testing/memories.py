"""Memories for tests: a dict, searched by the words that query and memory share."""

import math
import re

from ..memory.base import Memory, Recollection

RECALLED_MAX = 100


class DictMemories:
    """A `MemoryStore` without vectors. The score is the cosine of the two sets of words: 1 when they are equal."""

    def __init__(self) -> None:
        self._memories: dict[tuple[str, str], Memory] = {}

    async def remember(self, memory: Memory) -> None:
        self._memories.setdefault((memory.user_id, memory.id), memory)

    async def recall(self, user_id: str, query: str, *, limit: int = 5) -> tuple[Recollection, ...]:
        wanted = _words(query)
        found = [
            Recollection(memory, _overlap(wanted, _words(memory.text)))
            for (owner, _), memory in self._memories.items()
            if owner == user_id
        ]
        found.sort(key=lambda item: item.score, reverse=True)
        return tuple(found[: max(0, min(limit, RECALLED_MAX))])


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _overlap(left: set[str], right: set[str]) -> float:
    return len(left & right) / math.sqrt(len(left) * len(right)) if left and right else 0.0
