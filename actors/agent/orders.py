"""What people may ask of a session besides saying something: one small class for each.

An order whose answer was lost may be given again: what it asks for is then there already.
"""

from dataclasses import dataclass
from typing import TypeAlias

from ..core.events import Decision


@dataclass(frozen=True, slots=True)
class Edit:
    """Change a message that still waits. Raises `MessageNotWaiting` once its turn has begun with other words."""

    message_id: str
    content: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take a message back that still waits: its turn ends as cancelled. Raises `MessageNotWaiting` once that began."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Begin no further step; the step that runs ends. A session that is paused stays so."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on. A session that is not paused stays as it is."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Decide on a tool call that waits. The same decision again changes nothing; another is `ApprovalNotPending`."""

    approval_id: str
    decision: Decision
    reason: str | None
    by: str


Order: TypeAlias = Edit | Withdraw | Pause | Resume | Resolve
