"""What is checked: the journal of a session, the rows derived from it, and what clients wrote down.

Parts that nobody has are None, and then the checks that need them are left out.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from actors.core.events import Event, Spent
from actors.ledger.book import Attempt


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The session's row. `oldest_seq` is the number of the first event that is still there."""

    id: str
    user_id: str
    epoch: int
    last_seq: int
    status: str
    spent: Spent
    oldest_seq: int = 1


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """A turn's row."""

    id: str
    session_id: str
    message_id: str
    status: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """The body of an event of a newer version, whose type this one does not know.

    With `damage` it is an event that no version could read, and why.
    """

    type: str
    members: dict[str, Any] = field(default_factory=dict[str, Any])
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class SessionEvidence:
    """One session: its whole journal, and its rows. A body may be `Unrecognised`."""

    session_id: str
    events: tuple[Event, ...]
    session: SessionFacts | None = None
    turns: tuple[TurnFacts, ...] | None = None
    attempts: tuple[Attempt, ...] | None = None
