"""A session is a fold over its events: what each kind does to it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agent.state import OUTCOME_UNKNOWN, REMEMBERED_MESSAGES, SessionState, title_of
from actors.core.events import (
    Event,
    MessageAccepted,
    MessageCompleted,
    SessionCreated,
    Spent,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnQueued,
    TurnRecovering,
    TurnStarted,
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
            turn_id = None if isinstance(body, SessionCreated) else turn
            state.apply(Event(state.last_seq + 1, "sess_1", turn_id, NOW, body))
        return state

    tell(SessionCreated("user_1", "some-model", "Be brief.", {"a": 1}))
    return tell


CALL = ToolCall("id_1", "run_shell", "{}")


def test_what_a_session_is_created_with(tell: Any) -> None:
    state = tell()
    assert (state.user_id, state.created.model, state.system, state.metadata) == ("user_1", "some-model", "Be brief.", {"a": 1})
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
