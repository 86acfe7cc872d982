"""The events of a session, checked one by one as they are written, and its rows, once nothing is under way.

What does not hold is an AssertionError that says what.
"""

import sqlalchemy as sa
from sqlalchemy import Connection

from ..agent.state import SessionState
from ..agent.tables import APPROVALS, SESSIONS, TURNS
from ..agent.transcript_rules import AnthropicRules, OpenAIRules, first_fault
from ..agent.turn_state import ToolState, TurnState
from ..core.events import (
    TERMINAL,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    HistoryTrimmed,
    MessageAccepted,
    MessageCompleted,
    MessageEdited,
    MessageSteered,
    Spent,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnRecovering,
    TurnResumed,
    TurnStarted,
    TurnWaiting,
    UsageUpdated,
)
from ..core.messages import Usage
from ..ledger.book import attempts_of

_STEPS = (TurnStarted, TurnResumed, TurnRecovering, ToolStarted, MessageSteered)
"""What begins a step: nothing of this kind comes while the session is paused."""

_OF_THE_RUNNING_TURN = (MessageCompleted, ToolRequested, ToolStarted, ToolCompleted, ToolOutcomeUnknown, UsageUpdated)


class History:
    """All that was ever written of a session, what was trimmed since included.

    `guarded` names the tools that a person must approve. `turns` are events by turn, `ends` the terminal ones,
    `decisions` those on approvals, by their ids.
    """

    def __init__(self, session_id: str, *, guarded: frozenset[str] = frozenset()) -> None:
        self.session_id = session_id
        self.events: list[Event] = []
        self.state = SessionState(session_id)
        self.left = SessionState(session_id)
        """The session as those know it who read the journal now."""
        self.turns: dict[str, list[Event]] = {}
        self.ends: dict[str, Event] = {}
        self.decisions: dict[str, ApprovalResolved | ApprovalExpired] = {}
        self.trimmed_to = 0
        self._guarded = guarded
        self._started: set[tuple[str, str]] = set()
        self._total = Spent()

    @property
    def is_fork(self) -> bool:
        return self.state.created is not None and self.state.created.forked_from is not None

    def was_withdrawn(self, turn_id: str) -> bool:
        """It was cancelled before it began."""
        kinds = {type(event.body) for event in self.turns[turn_id]}
        return TurnCancelled in kinds and TurnStarted not in kinds

    def take(self, event: Event) -> None:
        """The next event, as it was read from the journal."""
        assert event.seq == self.state.last_seq + 1, f"number {event.seq} after {self.state.last_seq}"
        if self.events:
            self._check_pair(self.events[-1], event)
        if self.state.paused:
            assert not isinstance(event.body, _STEPS), f"{event.body.type} while the session was paused"
        if event.turn_id is not None:
            self._check(event, event.turn_id)
            self.turns.setdefault(event.turn_id, []).append(event)
        self.state.apply(event)
        self.left.apply(event)
        self.events.append(event)
        if event.turn_id is not None and isinstance(event.body, TERMINAL):
            self.ends[event.turn_id] = event
            self._check_end(event.turn_id)

    def _check_pair(self, last: Event, event: Event) -> None:
        assert event.created_at >= last.created_at, "time went backwards"
        if isinstance(last.body, MessageSteered):
            assert isinstance(event.body, TurnCompleted), "a message was steered, and its turn went on"
            assert (event.turn_id, event.body.stop_reason) == (last.turn_id, "steered")

    def _check(self, event: Event, turn_id: str) -> None:
        assert turn_id not in self.ends, f"{event.body.type} after the end of {turn_id}"
        turn, running = self.state.turns.get(turn_id), self.state.running
        if turn is None:
            assert isinstance(event.body, MessageAccepted), f"{event.body.type} of an unknown turn"
            return
        self._check_turn(event, turn)
        self._check_tool(event, turn)
        if isinstance(event.body, _OF_THE_RUNNING_TURN):
            assert turn is running, f"{event.body.type} of {turn.id} while {running and running.id} ran"
            stopped = isinstance(event.body, ToolCompleted) and event.body.error == "stopped"
            assert stopped or not turn.waiting, f"{event.body.type} of a turn that waits"

    def _check_turn(self, event: Event, turn: TurnState) -> None:
        running = self.state.running
        match event.body:
            case TurnStarted():
                assert running is None, f"{turn.id} started while {running and running.id} ran"
                assert turn is self.state.head, f"{turn.id} started before its turn"
            case TurnResumed():
                assert turn.waiting, "a turn was resumed that did not wait"
            case TurnRecovering():
                assert (turn.running, turn.waiting) == (True, None), "only a turn that runs is recovered"
            case TurnWaiting(reason="approval"):
                assert turn.open_calls()[0].undecided, "it waits for nobody"
            case TurnWaiting():
                assert self.state.paused or self.is_fork, "it waits, and the session is not paused"
            case MessageEdited():
                assert not turn.running, "a message was changed after its turn had begun"
            case MessageSteered(into_turn_id=into):
                assert turn.on_busy == "steer", "a message was steered that was to wait its turn"
                assert running is not None, "steered into nothing"
                assert (running.id, running.waiting) == (into, None), "steered into a turn that does not run"
            case UsageUpdated(spent=spent, session=session):
                self._total += spent
                assert session == self._total, "the session's total is not the sum of its attempts"
            case _:
                pass

    def _check_tool(self, event: Event, turn: TurnState) -> None:
        match event.body:
            case ToolRequested(call=call):
                assert call.id not in turn.tools, "a call was requested twice"
            case ApprovalRequested(tool_call_id=call_id, name=name):
                assert name in self._guarded, "asked without need"
                assert turn.tools[call_id].approval is None, "asked twice"
            case ApprovalResolved() | ApprovalExpired() as body:
                assert turn.tools[body.tool_call_id].undecided, "decided twice"
                self.decisions[body.approval_id] = body
            case ToolStarted(tool_call_id=call_id):
                assert (turn.id, call_id) not in self._started, "a tool was started twice"
                self._started.add((turn.id, call_id))
                assert self._may_run(turn.tools[call_id]), "a tool ran that nobody allowed"
            case ToolCompleted(tool_call_id=call_id, error=error):
                assert turn.tools[call_id].result is None, "two outcomes of one call"
                assert turn.tools[call_id].started or error in ("denied", "stopped"), "an outcome of what never ran"
            case ToolOutcomeUnknown(tool_call_id=call_id):
                assert turn.tools[call_id].started, "what never ran has an outcome that is not known"
                assert turn.tools[call_id].result is None, "its outcome is known"
            case _:
                pass

    def _may_run(self, tool: ToolState) -> bool:
        if tool.call.name not in self._guarded:
            return True
        return tool.approval is not None and tool.approval.decision == "approve"

    def _check_end(self, turn_id: str) -> None:
        bodies = [event.body for event in self.turns[turn_id]]
        asked = [body.call.id for body in bodies if isinstance(body, ToolRequested)]
        answered = [body.tool_call_id for body in bodies if isinstance(body, ToolCompleted | ToolOutcomeUnknown)]
        assert sorted(asked) == sorted(answered), f"a call of {turn_id} has no outcome"
        if self.state.running is None:
            for rules in (OpenAIRules(), AnthropicRules()):
                fault = first_fault(rules, self.left.transcript)
                assert fault is None, fault

    # What is left, and the rows -------------------------------------------------------------------------

    def check_left(self, events: tuple[Event, ...]) -> None:
        """The journal from its beginning, after what may have been a trim."""
        first = events[0]
        if not isinstance(first.body, HistoryTrimmed):
            assert list(events) == self.events, "what was written has changed"
            return
        gone = self.events[: first.seq]
        assert first.body.turns == sum(isinstance(e.body, TERMINAL) for e in gone)
        assert first.body.messages == sum(isinstance(e.body, MessageAccepted | MessageCompleted) for e in gone)
        assert list(events[1:]) == self.events[first.seq :], "what was left has changed"
        self.trimmed_to = first.seq
        self.left = SessionState(self.session_id)
        for event in events:
            self.left.apply(event)

    def check_rows(self, connection: Connection) -> None:
        """Sessions, turns, approvals and attempts, when every turn has ended and `check_left` was told of trims."""
        row = connection.execute(sa.select(SESSIONS).where(SESSIONS.c.id == self.session_id)).one()
        assert (row.status, row.last_seq, row.oldest_seq) == (
            self.state.status,
            self.state.last_seq,
            self.trimmed_to or 1,
        )
        assert (row.cost_micros, row.cost_known) == (self._total.cost_micros, self._total.cost_known)
        self._check_turn_rows(connection)
        self._check_approval_rows(connection)
        attempts = attempts_of(connection, self.session_id)
        accounted = [e.body.attempt_id for e in self.events if isinstance(e.body, UsageUpdated)]
        told = sorted(attempt.id for attempt in attempts if attempt.is_told or attempt.state == "dispatched")
        assert told == sorted(accounted), "an attempt was left open, or is twice"
        assert sum((attempt.usage for attempt in attempts), Usage()) == self._total.usage
        assert sum(attempt.cost_micros or 0 for attempt in attempts) == self._total.cost_micros

    def _check_turn_rows(self, connection: Connection) -> None:
        rows = connection.execute(sa.select(TURNS).where(TURNS.c.session_id == self.session_id)).all()
        assert {row.id for row in rows} == {turn for turn, e in self.turns.items() if e[0].seq > self.trimmed_to}
        for row in rows:
            accepted, end = self.turns[row.id][0], self.ends[row.id]
            assert isinstance(accepted.body, MessageAccepted)
            assert (row.accepted_seq, row.message_id) == (accepted.seq, accepted.body.message_id)
            assert (row.status, row.finished_at) == (end.body.type.removeprefix("turn."), end.created_at)

    def _check_approval_rows(self, connection: Connection) -> None:
        rows = connection.execute(sa.select(APPROVALS).where(APPROVALS.c.session_id == self.session_id)).all()
        kept = (event.body for event in self.events if event.seq > self.trimmed_to)
        asked = [body.approval_id for body in kept if isinstance(body, ApprovalRequested)]
        assert {row.id: row.status for row in rows} == {name: _status_of(self.decisions[name]) for name in asked}


def _status_of(body: ApprovalResolved | ApprovalExpired) -> str:
    if isinstance(body, ApprovalResolved):
        return "approved" if body.decision == "approve" else "denied"
    return "cancelled" if body.cancelled else "expired"
