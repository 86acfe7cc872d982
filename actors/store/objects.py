"""What Greenroom asks of an object store: named bytes, for files that outlive the machine they were made on.

The contract is what a folder, S3 and memory can all keep. So there is "create only" and no "replace this very
version": a folder cannot do that atomically. Who needs an order makes it of names (`security/sealed_snapshots.py`).
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_MAX_KEY_CHARS = 512


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object by its whole key, as a listing tells of it."""

    key: str
    size_bytes: int


class ObjectStore(Protocol):
    """Objects by key: segments of letters, digits, `-`, `_` and inner dots, with a slash between two of them.

    An object is there as a whole or not at all, also when whoever writes it dies. Once a call has returned,
    every later one sees what it did, from any machine. Of two that write one key at once the last one wins.

    Calls end within the store's deadline. They raise `StoreUnavailable` when the store does not answer in time, after
    repeats that are bounded, or refuses; its message says what would mend it. After such a failure nobody knows
    whether a write took place. A key of another form is a ValueError. Nothing here encrypts.
    """

    async def put(self, key: str, data: bytes, *, create: bool = False) -> bool:
        """Write an object. With `create` one that exists is left as it is, and the answer is False."""
        ...

    async def upload(self, key: str, chunks: AsyncIterable[bytes], *, within_s: float) -> int:
        """Write an object in parts, as they come, and count its bytes. At most a few parts are in memory.

        What `chunks` raises is raised here, and then nothing was written. The deadline is `within_s`.
        """
        ...

    async def get(self, key: str) -> bytes | None:
        """The whole object, in memory; None when there is none."""
        ...

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """The object in pieces, nothing when there is none. Each piece has the store's deadline."""
        ...

    async def delete(self, *keys: str) -> None:
        """Idempotent."""
        ...

    async def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        """Every object below the folder `prefix`, at any depth, sorted by key."""
        ...


def checked_key(key: str) -> str:
    """The key itself. Raises ValueError for one that some store could not hold or would read otherwise."""
    if len(key) > _MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"{key[:100]!r} is not a key of an object")
    return key
