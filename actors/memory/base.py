"""What Greenroom asks of long-term memory: facts of a user, found again by meaning."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

E5 = "multilingual-e5-small-q4"
"""Name of the embedder that Greenroom brings. Here, because sessions name it in their rows and do not load it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A remembered fact and where it came from."""

    id: str
    user_id: str
    text: str
    session_id: str
    turn_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Recollection:
    """A memory that a query found. `score` is the cosine similarity, at most 1."""

    memory: Memory
    score: float


class MemoryStore(Protocol):
    """The memories of all users; every call is of one user and sees no other's.

    Raises `MemoryUnavailable` when the store does not answer within its deadline.
    """

    async def remember(self, memory: Memory) -> None:
        """Store it. The same id again changes nothing, so a repeat is safe."""
        ...

    async def recall(self, user_id: str, query: str, *, limit: int = 5) -> tuple[Recollection, ...]:
        """The nearest first. An unknown user has no memories, which is no error."""
        ...
