"""What one asks of sessions, wherever they live: the Protocol that hosts, Ray proxies and tests share."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..core.events import Event, Failure, OnBusy, Preview, Spent
from ..core.messages import ToolCall
from ..ledger.payer import NOBODY, Payer
from .orders import Order
from .previews import Seen


@dataclass(frozen=True, slots=True)
class NewSession:
    """Open the session with the message, if it does not exist yet."""

    model: str
    system: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submit:
    """A message of a user. The caller makes the ids, so that sending it again is recognised.

    `on_busy` matters while a turn runs; `reject` raises `SessionBusy` then. The same ids with another
    `fingerprint` are `IdempotencyKeyReused`.
    """

    session_id: str
    user_id: str
    message_id: str
    turn_id: str
    content: str
    model: str | None = None
    new: NewSession | None = None
    on_busy: OnBusy | Literal["reject"] = "enqueue"
    fingerprint: str | None = None
    payer: Payer = NOBODY
    """Who is charged with its turn, beside the user."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The message is in the journal. `seq` is the number of its `message.accepted`; `position` 0 runs now."""

    session_id: str
    turn_id: str
    message_id: str
    seq: int
    position: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message whose turn has not begun. `position` counts the turns before it, one that runs included."""

    message_id: str
    turn_id: str
    content: str
    on_busy: OnBusy
    position: int


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    call: ToolCall
    content: str
    error: str | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A turn that has ended. `status` is completed, failed or cancelled; `error` is set when it failed."""

    session_id: str
    turn_id: str
    status: str
    stop_reason: str
    message: str
    tools: tuple[ToolOutcome, ...]
    steps: int
    spent: Spent
    error: Failure | None = None
    stopped: tuple[str, ...] = ()
    """What was running when it was cancelled: `model`, or the names of tools."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All that a reader had not seen when it asked. Empty when its wait ran out."""

    events: tuple[Event, ...]
    previews: tuple[Preview, ...]
    seen: dict[str, int]
    """To be handed in with the next question."""


class Sessions(Protocol):
    """Every call may raise `SessionNotFound`, `StoreUnavailable`, `SessionLost` or `AtCapacity`."""

    async def submit(self, command: Submit) -> Receipt:
        """Accept a message: it is durable when this returns. The same `message_id` again changes nothing."""
        ...

    async def chat(self, command: Submit, *, wait_s: float) -> TurnResult | Receipt:
        """Accept a message and wait for its turn; the receipt when that takes longer than `wait_s`.

        The receipt at once when the session waits for a person, or is paused.
        """
        ...

    async def follow(self, session_id: str, user_id: str, *, after: int, seen: Seen, wait_s: float) -> Batch:
        """Events numbered above `after`, in order, and previews beyond `seen`; waits up to `wait_s` for some."""
        ...

    async def cancel(self, session_id: str, user_id: str, turn_id: str) -> TurnResult | None:
        """Stop a turn, and return how it ended; None when it had ended before."""
        ...

    async def control(self, session_id: str, user_id: str, order: Order) -> None:
        """Carry an order out: it is durable when this returns. What may be raised stands with each order."""
        ...

    async def inbox(self, session_id: str, user_id: str) -> tuple[Waiting, ...]:
        """Messages that wait, in the order in which their turns will run."""
        ...

    async def forget(self, session_id: str) -> None:
        """The session was deleted: stop its turn, drop it from memory, destroy its sandbox."""
        ...
