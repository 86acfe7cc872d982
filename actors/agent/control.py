"""What orders of people write into a session's journal."""

from ..core.errors import ApprovalNotFound, ApprovalNotPending, InvalidInput, MessageNotFound, MessageNotWaiting
from ..core.events import ApprovalResolved, MessageEdited, SessionPaused, SessionResumed
from .log import SessionLog
from .orders import Edit, Order, Pause, Resolve, Resume, Withdraw
from .turn_state import TurnState


def carry_out(order: Order, log: SessionLog) -> str | None:
    """Stage what the order says; nothing where it is so already. Returns the id of a turn that is to be cancelled.

    Raises what stands with the order.
    """
    match order:
        case Edit():
            _edit(order, log)
        case Withdraw():
            return _withdrawn(order, log)
        case Pause():
            if not log.state.paused:
                log.stage(SessionPaused())
        case Resume():
            if log.state.paused:
                log.stage(SessionResumed())
        case Resolve():
            _resolve(order, log)
    return None


def _edit(order: Edit, log: SessionLog) -> None:
    if not order.content.strip():
        raise InvalidInput("the message is empty")
    turn = log.state.turn_of(order.message_id)
    if turn is None or turn.content != order.content:
        log.stage(MessageEdited(order.message_id, order.content), _waiting(log, order.message_id).id)


def _withdrawn(order: Withdraw, log: SessionLog) -> str | None:
    """The turn to cancel."""
    accepted = log.state.accepted.get(order.message_id)
    return None if accepted is not None and accepted.withdrawn else _waiting(log, order.message_id).id


def _waiting(log: SessionLog, message_id: str) -> TurnState:
    turn = log.state.turn_of(message_id)
    if turn is None:
        if message_id in log.state.accepted:
            raise MessageNotWaiting(session_id=log.state.session_id, message_id=message_id)
        raise MessageNotFound(session_id=log.state.session_id, message_id=message_id)
    if turn.running:
        raise MessageNotWaiting(session_id=log.state.session_id, message_id=message_id, turn_id=turn.id)
    return turn


def _resolve(order: Resolve, log: SessionLog) -> None:
    state = log.state
    if order.approval_id in state.decided:
        if state.decided[order.approval_id] != order.decision:
            raise ApprovalNotPending(session_id=state.session_id)
        return
    turn = state.running
    asked = [t for t in turn.undecided() if t.approval and t.approval.id == order.approval_id] if turn else []
    if turn is None or not asked:
        raise ApprovalNotFound(session_id=state.session_id)
    body = ApprovalResolved(order.approval_id, asked[0].call.id, order.decision, order.reason, order.by)
    log.stage(body, turn.id)
