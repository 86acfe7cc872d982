"""A session is a fold over its events: what each kind does to it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agent.state import (
    OUTCOME_UNKNOWN,
    REMEMBERED_DECISIONS,
    REMEMBERED_MESSAGES,
    SessionState,
    title_of,
)
from actors.core.events import (
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    HistoryTrimmed,
    MessageAccepted,
    MessageCompleted,
    MessageEdited,
    MessageSteered,
    SessionCreated,
    SessionPaused,
    SessionResumed,
    Spent,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnQueued,
    TurnRecovering,
    TurnResumed,
    TurnStarted,
    TurnWaiting,
    UsageUpdated,
)
from actors.core.messages import AssistantMessage, ToolCall, ToolMessage, Usage, UserMessage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def state() -> SessionState:
    return SessionState("sess_1")


@pytest.fixture
def tell(state: SessionState) -> Any:
    """Apply bodies under the next numbers, for one turn."""

    def tell(*bodies: Any, turn: str | None = "turn_1") -> SessionState:
        for body in bodies:
            turn_id = None if isinstance(body, SessionCreated | SessionPaused | SessionResumed) else turn
            state.apply(Event(state.last_seq + 1, "sess_1", turn_id, NOW, body))
        return state

    tell(SessionCreated("user_1", "some-model", "Be brief.", {"a": 1}))
    return tell


CALL = ToolCall("id_1", "run_shell", "{}")


def test_what_a_session_is_created_with(tell: Any) -> None:
    state = tell()
    assert (state.user_id, state.created.model, state.system, state.metadata) == (
        "user_1",
        "some-model",
        "Be brief.",
        {"a": 1},
    )
    assert (state.running, state.title, state.last_seq) == (None, None, 1)


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_numbers_have_no_gaps_and_no_repeats(state: SessionState, tell: Any, seq: int) -> None:
    with pytest.raises(ValueError, match=f"event {seq} after 1"):
        state.apply(Event(seq, "sess_1", "turn_1", NOW, MessageAccepted("msg_1", "hi")))
    assert (state.last_seq, state.turns) == (1, {})


def test_a_message_waits_outside_the_transcript_until_its_turn_starts(tell: Any) -> None:
    tell(MessageAccepted("msg_1", "first"), TurnStarted("msg_1", "m"))
    state = tell(MessageAccepted("msg_2", "second", "other"), TurnQueued("msg_2", 1), turn="turn_2")
    assert state.transcript == [UserMessage("first")]
    assert [(turn.id, turn.running, turn.model) for turn in state.turns.values()] == [
        ("turn_1", True, "some-model"),
        ("turn_2", False, "other"),
    ]
    assert state.running is state.turns["turn_1"]


def test_a_turn_from_its_start_to_its_end(tell: Any) -> None:
    spent = Spent(Usage(10, 2), 7)
    state = tell(
        MessageAccepted("msg_1", "hi"),
        TurnStarted("msg_1", "m"),
        MessageCompleted("msg_2", "Let me see.", "m", "tool_calls", (CALL,), reasoning_details=({"x": 1},)),
        UsageUpdated("att_1", "m", spent, spent),
        ToolRequested(CALL),
    )
    turn = state.turns["turn_1"]
    assert (turn.steps, turn.spent, [tool.call for tool in turn.open_calls()]) == (1, spent, [CALL])
    tell(ToolStarted("id_1", "run_shell"))
    assert turn.tools["id_1"].started
    tell(ToolCompleted("id_1", "run_shell", "ok"))
    assert turn.open_calls() == []
    tell(
        MessageCompleted("msg_3", "Done.", "m", "stop"),
        UsageUpdated("att_2", "m", spent, spent + spent),
        TurnCompleted("end_turn", 2, spent + spent),
    )
    assert (state.turns, state.running, turn.answer, turn.finish_reason) == ({}, None, "Done.", "stop")
    assert turn.outcome == TurnCompleted("end_turn", 2, spent + spent)
    assert (turn.spent, state.spent) == (spent + spent, spent + spent)
    assert state.transcript == [
        UserMessage("hi"),
        AssistantMessage("Let me see.", (CALL,), ({"x": 1},), turn.model),
        ToolMessage("id_1", "ok"),
        AssistantMessage("Done.", model=turn.model),
    ]


def test_an_unknown_outcome_answers_the_call(tell: Any) -> None:
    state = tell(
        MessageAccepted("msg_1", "hi"),
        TurnStarted("msg_1", "m"),
        MessageCompleted("msg_2", "", "m", "tool_calls", (CALL,)),
        ToolRequested(CALL),
        ToolStarted("id_1", "run_shell"),
        TurnRecovering(2),
        ToolOutcomeUnknown("id_1", "run_shell"),
    )
    turn = state.turns["turn_1"]
    assert (turn.recoveries, turn.open_calls()) == (2, [])
    assert state.transcript[-1] == ToolMessage("id_1", OUTCOME_UNKNOWN)


def test_a_queued_turn_may_end_without_having_started(tell: Any) -> None:
    state = tell(MessageAccepted("msg_1", "hi"), TurnCancelled((), 0, Spent()))
    assert (state.turns, state.transcript) == ({}, [])
    assert {k: v.turn_id for k, v in state.accepted.items()} == {"msg_1": "turn_1"}


def test_the_newest_messages_are_known_by_id(tell: Any) -> None:
    for number in range(REMEMBERED_MESSAGES + 1):
        tell(MessageAccepted(f"msg_{number}", "hi"), TurnCancelled((), 0, Spent()), turn=f"turn_{number}")
    state = tell()
    assert len(state.accepted) == REMEMBERED_MESSAGES
    assert "msg_0" not in state.accepted
    assert state.accepted[f"msg_{REMEMBERED_MESSAGES}"].turn_id == f"turn_{REMEMBERED_MESSAGES}"


def test_the_title_is_the_first_message(tell: Any) -> None:
    tell(MessageAccepted("msg_1", "  What is\n the answer? "))
    assert tell(MessageAccepted("msg_2", "no"), turn="turn_2").title == "What is the answer?"


@given(st.text(), st.integers(2, 100))
def test_a_title_is_one_line_and_short(content: str, length: int) -> None:
    title = title_of(content, length=length)
    assert len(title) <= length
    assert "\n" not in title
    if len(" ".join(content.split())) <= length:
        assert title == " ".join(content.split())
    else:
        assert title.endswith("…")


# Inbox ---------------------------------------------------------------------------------------------------


def accept(tell: Any, name: str, on_busy: Any = "enqueue") -> SessionState:
    return tell(MessageAccepted(f"msg_{name}", name, on_busy=on_busy), turn=name)


def test_what_steers_or_interrupts_comes_ahead_of_the_queue_and_behind_others_of_its_kind(tell: Any) -> None:
    for name, on_busy in (("runs", "enqueue"), ("a", "enqueue"), ("b", "steer"), ("c", "interrupt"), ("d", "enqueue")):
        accept(tell, name, on_busy)
        if name == "runs":
            tell(TurnStarted("msg_runs", "m"), turn="runs")
    assert list(tell().turns) == ["runs", "b", "c", "a", "d"]
    assert list(accept(tell, "e", "steer").turns) == ["runs", "b", "c", "e", "a", "d"]


def test_a_message_that_was_edited_says_the_new_words(tell: Any) -> None:
    accept(tell, "a")
    state = tell(MessageEdited("msg_a", "better"), TurnStarted("msg_a", "m"), turn="a")
    assert (state.transcript, state.title) == ([UserMessage("better")], "a")


def test_a_message_that_was_steered_is_said_in_the_turn_that_runs(tell: Any) -> None:
    accept(tell, "a")
    tell(TurnStarted("msg_a", "m"), turn="a")
    accept(tell, "b", "steer")
    state = tell(MessageSteered("msg_b", "a"), TurnCompleted("steered", 0, Spent()), turn="b")
    assert (state.transcript, list(state.turns)) == ([UserMessage("a"), UserMessage("b")], ["a"])


def test_withdrawn_is_what_was_cancelled_before_it_began(tell: Any) -> None:
    for name in ("a", "b"):
        accept(tell, name)
    tell(TurnStarted("msg_a", "m"), TurnCancelled((), 0, Spent()), turn="a")
    state = tell(TurnCancelled((), 0, Spent()), turn="b")
    assert {key: value.withdrawn for key, value in state.accepted.items()} == {"msg_a": False, "msg_b": True}


# Waiting -------------------------------------------------------------------------------------------------

OTHER = ToolCall("id_2", "run_shell", "{}")


def ask(call: ToolCall) -> ApprovalRequested:
    return ApprovalRequested(f"appr_{call.id}", call.id, call.name, call.arguments, NOW, "deny")


@pytest.fixture
def calling(tell: Any) -> Any:
    """A turn with two calls, of which the second needs a person."""
    tell(
        MessageAccepted("msg_1", "hi"),
        TurnStarted("msg_1", "m"),
        MessageCompleted("msg_2", "", "m", "tool_calls", (CALL, OTHER)),
        ToolRequested(CALL),
        ToolRequested(OTHER),
        ask(OTHER),
    )
    return tell


def test_what_a_session_does_next(state: SessionState, tell: Any) -> None:
    assert state.status == "idle"
    assert tell(SessionPaused()).status == "paused"
    assert tell(SessionResumed()).status == "idle"
    assert tell(MessageAccepted("msg_1", "hi")).status == "running"
    assert tell(TurnStarted("msg_1", "m")).status == "running"
    assert tell(SessionPaused()).status == "paused"
    assert tell(TurnWaiting("paused")).status == "paused"
    # Nobody need say anything more: it goes on, whatever the turn's own last word was.
    assert tell(SessionResumed()).status == "running"
    assert tell(TurnResumed()).turns["turn_1"].waiting is None


def test_a_turn_is_blocked_by_the_call_that_comes_next_and_by_no_other(calling: Any) -> None:
    state = calling(TurnWaiting("approval"))
    turn = state.turns["turn_1"]
    assert (turn.blocked, state.status, [tool.call for tool in turn.undecided()]) == (False, "running", [OTHER])
    calling(TurnResumed(), ToolStarted("id_1", "run_shell"), ToolCompleted("id_1", "run_shell", "ok"))
    assert not turn.blocked, "it has not left the processor"
    assert (calling(TurnWaiting("approval")).status, turn.blocked) == ("waiting", True)
    calling(ApprovalResolved("appr_id_2", "id_2", "approve", "why not", "user_1"))
    assert (turn.blocked, state.status, turn.undecided()) == (False, "running", [])
    approval = turn.tools["id_2"].approval
    assert approval is not None
    assert (approval.decision, approval.reason) == ("approve", "why not")


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (ApprovalResolved("appr_id_2", "id_2", "deny", None, "user_1"), "deny"),
        (ApprovalExpired("appr_id_2", "id_2", "approve"), "approve"),
        (ApprovalExpired("appr_id_2", "id_2", "deny", cancelled=True), None),
    ],
)
def test_how_an_approval_ended_is_known_after_its_turn(calling: Any, body: Any, known: str | None) -> None:
    state = calling(
        body,
        ToolCompleted("id_1", "run_shell", "no", error="stopped"),
        ToolCompleted("id_2", "run_shell", "no", error="stopped"),
        TurnCancelled((), 1, Spent()),
    )
    assert state.decided == {"appr_id_2": known}


def test_of_so_many_approvals_and_no_more(tell: Any) -> None:
    tell(MessageAccepted("msg_1", "hi"), TurnStarted("msg_1", "m"))
    for number in range(REMEMBERED_DECISIONS + 1):
        call = ToolCall(f"id_{number}", "run_shell", "{}")
        tell(
            MessageCompleted(f"ans_{number}", "", "m", "tool_calls", (call,)),
            ToolRequested(call),
            ask(call),
            ApprovalResolved(f"appr_id_{number}", call.id, "deny", None, "user_1"),
            ToolCompleted(call.id, "run_shell", "no", error="denied"),
        )
    assert list(tell().decided) == [f"appr_id_{number}" for number in range(1, REMEMBERED_DECISIONS + 1)]


# Trimmed -------------------------------------------------------------------------------------------------


def test_a_trimmed_history_begins_with_what_stands_for_the_rest() -> None:
    state = SessionState("sess_1")
    created = SessionCreated("user_1", "some-model", "Be brief.", {"a": 1})
    spent = Spent(Usage(10, 2), 7)
    trimmed = HistoryTrimmed(created, "What is it?", 4, 2, NOW, NOW, spent, paused=True)
    state.apply(Event(12, "sess_1", None, NOW, trimmed))
    assert (state.last_seq, state.created, state.title, state.spent, state.status) == (
        *(12, created, "What is it?", spent, "paused"),
    )
    state.apply(Event(13, "sess_1", "turn_9", NOW, MessageAccepted("msg_9", "and then?")))
    assert (state.title, list(state.turns), state.transcript) == ("What is it?", ["turn_9"], [])
    with pytest.raises(ValueError, match="event 12 after 13"):
        state.apply(Event(12, "sess_1", None, NOW, trimmed))
