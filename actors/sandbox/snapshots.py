"""What is asked of the place where workspaces of sessions are kept: numbered snapshots, of which the newest counts."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a lease ended: its number, and why its workspace is lost where it is."""

    number: int
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease's number, and what the leases before it left.

    With `unsaved` a lease came after the newest snapshot and did not tell of its end: the machine that had it may be
    gone, or cut off.
    """

    number: int
    newest: Snapshot | None = None
    unsaved: bool = False


class Snapshots(Protocol):
    """Workspaces by session. All calls raise `StoreUnavailable`.

    Each lease of a sandbox has a number, one more than all before it, whichever machine gave those. What a lease leaves
    has its number, and the highest counts: a lease that was overtaken and saves late overwrites nothing.
    """

    async def claim(self, session_id: str) -> Claim:
        """Take the next number. Waits for some seconds for a lease that is being saved elsewhere."""
        ...

    async def newest(self, session_id: str) -> Snapshot | None:
        """What the last lease left that told of its end. Claims nothing."""
        ...

    async def announce(self, session_id: str, number: int) -> None:
        """The lease is being saved: whoever claims the next number should wait for it."""
        ...

    async def save(self, session_id: str, number: int, chunks: AsyncIterable[bytes], *, within_s: float) -> int:
        """Keep what the lease left, and drop what those before it did; how many bytes are stored.

        What `chunks` raises is raised here, and nothing was kept. So is nothing of a session that was forgotten.
        """
        ...

    async def lose(self, session_id: str, number: int, why: str) -> None:
        """Record that there is nothing to keep of this lease. `why` is for the model."""
        ...

    def load(self, session_id: str, number: int) -> AsyncIterator[bytes]:
        """What was saved under a number. Raises `SnapshotDamaged`, at its end at the latest, when it is not that."""
        ...

    async def forget(self, session_id: str) -> None:
        """Drop all of a session, also what is being saved of it now. Idempotent."""
        ...


class SnapshotDamaged(Exception):
    """What was read is not what was saved, or is not there any more."""
