"""A session's past, told again as the past of another one.

Turns and approvals get ids of their own. What the turns cost stays with the session that paid for it: the
copy begins with nothing spent. A turn that had not ended at the cut ends there as cancelled, and messages
that waited are left out.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ..core.events import (
    TERMINAL,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    Body,
    BudgetReached,
    Event,
    HistoryTrimmed,
    MessageAccepted,
    MessageCompleted,
    MessageSteered,
    Origin,
    SessionCreated,
    SessionPaused,
    SessionResumed,
    Spent,
    ToolCompleted,
    ToolRequested,
    TurnCancelled,
    UsageUpdated,
)
from ..core.ids import NewId
from ..core.messages import ToolCall
from .state import SessionState

_LEFT_OUT = (SessionCreated, HistoryTrimmed, SessionPaused, SessionResumed, UsageUpdated, BudgetReached)


def forked(events: Sequence[Event], session_id: str, *, new_id: NewId, now: datetime) -> tuple[Event, ...]:
    """The events of the new session, from its first. `events` begin at the first one of the old session."""
    source = SessionState(events[0].session_id)
    for event in events:
        source.apply(event)
    assert source.created is not None
    origin = Origin(source.session_id, events[-1].seq)
    waiting = {turn.id for turn in source.turns.values() if not turn.running}
    copy = _Copy(session_id, new_id)
    copy.add(events[0].created_at, None, replace(source.created, forked_from=origin))
    for event in events:
        if not isinstance(event.body, _LEFT_OUT) and event.turn_id not in waiting:
            copy.add(event.created_at, event.turn_id, event.body)
    copy.end_open(now)
    return tuple(copy.events)


class _Copy:
    """Numbers events anew and gives turns and approvals new ids."""

    def __init__(self, session_id: str, new_id: NewId) -> None:
        self.events: list[Event] = []
        self._state = SessionState(session_id)
        self._new_id = new_id
        self._turns: dict[str, str] = {}
        self._approvals: dict[str, str] = {}

    def add(self, at: datetime, turn_id: str | None, body: Body) -> None:
        self._stage(at, turn_id and self._turn(turn_id), self._renamed(body))

    def end_open(self, now: datetime) -> None:
        """Cancel the turn that had not ended, so that the transcript is one that providers accept."""
        turn = self._state.running
        if turn is None:
            return
        for call in self._asked_for(turn.id):
            if call.id not in turn.tools:  # cut between the answer and its requests
                self._stage(now, turn.id, ToolRequested(call))
        for tool in turn.open_calls():
            if tool.undecided:
                assert tool.approval is not None
                self._stage(now, turn.id, ApprovalExpired(tool.approval.id, tool.call.id, "deny", cancelled=True))
            said = "Its outcome is not part of this copy of the conversation."
            self._stage(now, turn.id, ToolCompleted(tool.call.id, tool.call.name, said, error="stopped"))
        self._stage(now, turn.id, TurnCancelled((), turn.steps, Spent()))

    def _asked_for(self, turn_id: str) -> tuple[ToolCall, ...]:
        """The calls of a turn's newest answer."""
        of_turn = (event.body for event in reversed(self.events) if event.turn_id == turn_id)
        return next((body.tool_calls for body in of_turn if isinstance(body, MessageCompleted)), ())

    def _stage(self, at: datetime, turn_id: str | None, body: Body) -> None:
        event = Event(self._state.last_seq + 1, self._state.session_id, turn_id, at, body)
        self._state.apply(event)
        self.events.append(event)

    def _renamed(self, body: Body) -> Body:
        match body:
            case MessageAccepted():
                # A request that is repeated is answered by the session it went to.
                return replace(body, fingerprint=None)
            case MessageSteered():
                return replace(body, into_turn_id=self._turn(body.into_turn_id))
            case ApprovalRequested() | ApprovalResolved() | ApprovalExpired():
                return replace(body, approval_id=self._approval(body.approval_id))
            case _ if isinstance(body, TERMINAL):
                return replace(body, spent=Spent())
            case _:
                return body

    def _turn(self, turn_id: str) -> str:
        if turn_id not in self._turns:
            self._turns[turn_id] = self._new_id("turn")
        return self._turns[turn_id]

    def _approval(self, approval_id: str) -> str:
        if approval_id not in self._approvals:
            self._approvals[approval_id] = self._new_id("appr")
        return self._approvals[approval_id]
