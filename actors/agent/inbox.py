"""A session's inbox: which messages are taken in, in what order they wait, and how they are counted."""

from collections.abc import Generator
from contextlib import contextmanager

from prometheus_client import Counter

from ..core import telemetry
from ..core.errors import InboxFull, InvalidInput, SessionBusy, SessionExists
from ..core.events import MessageAccepted, TurnQueued
from .log import SessionLog
from .sessions import Receipt, Submit, Waiting
from .state import SessionState


def take_in(log: SessionLog, command: Submit, *, inbox_max: int) -> Receipt:
    """Stage a message; the receipt is good once that is flushed.

    Raises `InvalidInput`, `SessionBusy` or `InboxFull`.
    """
    state = log.state
    if not command.content.strip():
        raise InvalidInput("the message is empty")
    if command.on_busy == "reject":
        if state.head is not None:
            raise SessionBusy(session_id=state.session_id, turn_id=state.head.id)
    elif len(waiting(state)) >= inbox_max:
        raise InboxFull(session_id=state.session_id, limit=inbox_max)
    on_busy = "enqueue" if command.on_busy == "reject" else command.on_busy
    body = MessageAccepted(
        command.message_id,
        command.content,
        command.model,
        on_busy,
        command.fingerprint,
        command.payer.key_id,
        command.payer.org_id,
    )
    accepted = log.stage(body, command.turn_id)
    position = position_of(state, command.turn_id)
    if position:
        log.stage(TurnQueued(command.message_id, position), command.turn_id)
    return Receipt(state.session_id, command.turn_id, command.message_id, accepted.seq, position)


def waiting(state: SessionState) -> tuple[Waiting, ...]:
    """Messages whose turns have not begun, in the order in which these will run."""
    return tuple(
        Waiting(turn.message_id, turn.id, turn.content, turn.on_busy, position)
        for position, turn in enumerate(state.turns.values())
        if not turn.running
    )


def position_of(state: SessionState, turn_id: str) -> int:
    """How many turns come before it; 0 for one that runs or has ended."""
    turns = list(state.turns)
    return turns.index(turn_id) if turn_id in turns else 0


@contextmanager
def counted() -> Generator[None]:
    """Count a message by what became of it. Cancelled is its caller alone: the message is written all the same."""
    fate: Counter | None = telemetry.INBOX_ENQUEUED
    try:
        yield
    except SessionExists:
        fate = None  # the session that is there gets the message, and counts it
        raise
    except Exception:
        fate = telemetry.INBOX_REJECTED
        raise
    finally:
        if fate is not None:
            telemetry.INBOX_RECEIVED.inc()
            fate.inc()
