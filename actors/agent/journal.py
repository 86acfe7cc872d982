"""The journal's contract: the only place where a session's past is written.

* One writer: `activate` raises the session's epoch, and `append` checks epoch and next number in the
  transaction that writes. A writer that was overtaken gets `Fenced` and nothing of its append stays.
* All or nothing: the events of an append, the ledger entries beside them and the rows derived from
  them are one transaction. When `append` returns, they are durable.
* `StoreUnavailable` means unknown: the append may be there or not. The caller drops the session and
  activates it again; the journal then says what is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ..core.events import Event, Origin
from ..ledger.book import AttemptEntry


@dataclass(frozen=True, slots=True)
class Profile:
    """What lists of sessions show. Users wrote it, so it is sealed like an event."""

    title: str | None
    system: str | None
    metadata: dict[str, Any]
    approvals: tuple[str, ...] = ()
    forked_from: Origin | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """What to write. `events` are numbered on from `after_seq`; the first of a new session is `session.created`.

    Without events it is ledger entries alone, fenced all the same. `profile` is given where it changes.
    """

    session_id: str
    user_id: str
    epoch: int
    after_seq: int
    events: tuple[Event, ...]
    attempts: tuple[AttemptEntry, ...] = ()
    profile: Profile | None = None
    status: str = "idle"
    """Of the session as these events leave it."""
    fingerprint: str | None = None
    """Of the request that creates the session."""

    @property
    def creates(self) -> bool:
        return self.after_seq == 0


@dataclass(frozen=True, slots=True)
class Activation:
    """The right to write a session, and all that was written so far."""

    session_id: str
    user_id: str
    epoch: int
    events: tuple[Event, ...]
    open_attempts: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Model calls that were sent and never closed, by turn: nobody knows what they cost."""


FIRST_EPOCH = 1
"""The epoch of whoever creates a session."""


class Journal(Protocol):
    async def append(self, append: Append) -> None:
        """Raises `Fenced`, `SessionExists` (when it creates) or `StoreUnavailable`."""
        ...

    async def activate(self, session_id: str, user_id: str | None = None) -> Activation:
        """Take the session over. Raises `SessionNotFound` or `StoreUnavailable`.

        With `user_id` only from that user's session: of another's nothing changes, and it is not found.
        """
        ...

    async def read(self, session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        """Events numbered above `after`, at most `limit`; anybody may read, of any epoch.

        From 0 on it begins with `history.trimmed` where there is one. Raises `CursorExpired` when `after` lies
        amid what was trimmed.
        """
        ...

    async def exists(self, session_id: str) -> bool:
        """There is such a session, and it was not deleted."""
        ...

    async def overtaken(self, epochs: Mapping[str, int]) -> tuple[str, ...]:
        """Of these sessions, with the epochs at which somebody holds them: those taken over by another, or deleted."""
        ...

    async def unfinished(self, *, limit: int) -> tuple[str, ...]:
        """Ids of sessions with a turn that should go on by itself, oldest first.

        Not those that are paused, or in which a person is asked.
        """
        ...

    async def due(self, now: datetime, *, limit: int) -> tuple[str, ...]:
        """Ids of sessions in which a person was asked and has not answered in time."""
        ...

    async def trim(self, before: datetime, *, limit: int) -> int:
        """Delete the events of up to `limit` sessions that are older than `before`; how many sessions it was.

        What is deleted makes room for one `history.trimmed`. Only whole turns go, and only of sessions in
        which nothing runs or waits.
        """
        ...
