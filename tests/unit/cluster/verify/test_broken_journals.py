"""A good journal broken in one place: the checker names the promise, and nothing else where nothing else broke."""

from dataclasses import replace

import pytest

from actors.core.events import (
    ApprovalResolved,
    MessageCompleted,
    SessionPaused,
    Spent,
    ToolCompleted,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnStarted,
)
from actors.core.messages import ToolCall
from cluster.verify import Unrecognised

# Numbers --------------------------------------------------------------------------------------------------


def test_a_missing_number(good, tamper, find):
    gone = tamper.at(good, "session.paused")
    assert find(replace(good, events=tuple(e for e in good.events if e is not gone))) == {("P4", "gap")}


def test_several_missing_numbers_are_told_as_a_range(good, tamper):
    from cluster.verify import check_history

    gone = [tamper.at(good, "session.paused"), tamper.at(good, "session.resumed")]
    (found,) = check_history([replace(good, events=tuple(e for e in good.events if e not in gone))])
    assert f"{gone[0].seq} to {gone[1].seq}" in found.says


def test_a_number_that_stands_twice(good, tamper, find):
    twice = tamper.at(good, "session.paused")
    events = sorted([*good.events, twice], key=lambda event: event.seq)
    assert find(replace(good, events=tuple(events))) == {("P2", "double_number")}


@pytest.mark.parametrize("by", [-1, 1])
def test_a_row_whose_last_number_is_another(good, tamper, find, by):
    assert find(tamper.row(good, last_seq=good.session.last_seq + by)) == {("P2", "last_seq")}


def test_a_row_without_a_journal(good, find):
    empty = replace(good, events=(), turns=(), attempts=(), session=replace(good.session, spent=Spent()))
    assert find(empty) == {("P2", "last_seq")}


def test_an_epoch_that_nobody_has(good, tamper, find):
    assert find(tamper.row(good, epoch=0)) == {("P2", "epoch")}


def test_a_journal_without_its_beginning(good, tamper, find):
    assert ("P4", "beginning") in find(tamper.without(good, good.events[0]))


def test_a_row_that_begins_elsewhere(good, tamper, find):
    assert find(tamper.row(good, oldest_seq=5)) == {("P4", "oldest_seq")}


def test_an_event_that_cannot_be_read(good, find):
    damaged = replace(good.events[-1], body=Unrecognised("turn.completed", damage="its payload is no JSON"))
    assert ("P4", "unreadable") in find(replace(good, events=(*good.events[:-1], damaged)))


# Turns ----------------------------------------------------------------------------------------------------


def test_a_turn_that_starts_while_another_runs(good, tamper, find):
    first = tamper.at(good, "turn.started", turn_id="turn_4")
    early = tamper.at(good, "turn.started", turn_id="turn_7")
    after = tamper.at(good, "turn.queued", turn_id="turn_7")
    broken = tamper.inserted(tamper.without(good, early), after, early.body, early.turn_id)
    assert first.seq < after.seq
    assert ("P2", "started_while_running") in find(broken)


def test_a_turn_that_starts_twice(good, tamper, find):
    assert find(tamper.repeated(good, tamper.at(good, "turn.started"))) >= {("P2", "started_while_running")}


def test_a_step_of_a_turn_that_has_ended(good, tamper, find):
    end = tamper.at(good, "turn.completed")
    late = ToolRequested(ToolCall("call_late", "run_shell", "{}"))
    assert ("P2", "event_after_end") in find(tamper.inserted(good, end, late, end.turn_id))


def test_a_step_of_a_message_that_was_withdrawn(good, tamper, find):
    end = tamper.at(good, "turn.cancelled", turn_id="turn_6")
    said = MessageCompleted("msg_late", "Too late.", "scripted", "stop")
    assert ("P2", "event_after_end") in find(tamper.inserted(good, end, said, "turn_6"))


def test_a_step_of_a_turn_that_waits(good, tamper, find):
    queued = tamper.at(good, "turn.queued", turn_id="turn_5")
    said = MessageCompleted("msg_early", "Too early.", "scripted", "stop")
    assert find(tamper.inserted(good, queued, said, "turn_5")) == {("P2", "step_of_idle_turn")}


def test_an_event_of_a_turn_that_nobody_knows(good, tamper, find):
    broken = tamper.inserted(good, good.events[-1], TurnStarted("msg_x", "scripted"), "turn_x")
    assert ("P3", "unknown_turn") in find(broken)


def test_a_turn_that_ends_twice(good, tamper, find):
    end = tamper.at(good, "turn.completed")
    broken = tamper.inserted(good, end, TurnCancelled(("model",), 1, end.body.spent), end.turn_id)
    assert ("P3", "ended_twice") in find(broken)
    assert ("P2", "event_after_end") not in find(broken), "one defect, one finding"


def test_a_turn_that_does_not_end(good, tamper, find):
    end = good.events[-1]
    open_turn = tamper.turn_row(tamper.without(good, end), end.turn_id, status="running", finished_at=None)
    open_turn = tamper.row(open_turn, status="running")
    assert find(open_turn, settled=True) == {("P3", "unended")}
    assert find(open_turn, settled=False) == set(), "it may still run"


def test_messages_that_were_answered_out_of_their_order(good, tamper, find):
    """The one that was to go ahead starts as the last one."""
    moved = [e for e in good.events if e.turn_id == "turn_7" and e.body.type not in ("message.accepted", "turn.queued")]
    rest = [e for e in good.events if e not in moved]
    at = rest.index(tamper.at(good, "turn.completed", turn_id="turn_5")) + 1
    assert find(tamper.mended(good, [*rest[:at], *moved, *rest[at:]])) == {
        ("P3", "start_order"),
        ("ledger", "running_total"),
    }


def test_a_message_that_goes_ahead_of_others_without_being_asked_to(good, tamper, find):
    """First come, first served: now the steer that began ahead of the line was an ordinary message."""
    accepted = tamper.at(good, "message.accepted", turn_id="turn_7")
    assert find(tamper.changed(good, accepted, on_busy="enqueue")) == {("P3", "start_order")}


def test_a_message_that_was_taken_into_a_turn_that_does_not_run(good, tamper, find):
    assert find(tamper.changed(good, tamper.at(good, "message.steered"), into_turn_id="turn_1")) == {
        ("P3", "steered_into_idle_turn")
    }


def test_a_message_that_was_accepted_twice(good, tamper, find):
    twice = tamper.at(good, "message.accepted")
    assert ("P1", "accepted_twice") in find(tamper.repeated(good, twice))


def test_a_turn_of_two_messages(good, tamper, find):
    accepted = tamper.at(good, "message.accepted")
    other = replace(accepted.body, message_id="msg_other")
    assert ("P1", "two_messages") in find(tamper.inserted(good, accepted, other, accepted.turn_id))


# Rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn_id", "members"),
    [
        ("turn_1", {"status": "failed"}),
        ("turn_1", {"status": "running", "finished_at": None}),
        ("turn_1", {"finished_at": None}),
        ("turn_4", {"status": "completed"}),
    ],
)
def test_a_turns_row_that_says_something_else(good, tamper, find, turn_id, members):
    assert find(tamper.turn_row(good, turn_id, **members)) == {("P3", "turn_row")}


@pytest.mark.parametrize(
    ("events", "status"), [(2, "running"), (3, "queued"), (3, "completed"), (5, "queued"), (5, "cancelled")]
)
def test_the_row_of_a_turn_that_has_not_ended(good, find, events, status):
    """Event 2 accepts turn_1, event 3 starts it."""
    row = replace(good.turns[0], status=status, finished_at=None)
    cut = replace(good, events=good.events[:events], session=None, attempts=None, turns=(row,))
    assert find(cut, settled=False) == {("P3", "turn_row")}
    right = replace(row, status="queued" if events == 2 else "running")
    assert find(replace(cut, turns=(right,)), settled=False) == set()


def test_a_turn_without_a_row(good, find):
    assert find(replace(good, turns=good.turns[1:])) == {("P3", "turn_row")}


def test_a_row_without_events(good, find):
    """As if its message had been answered and lost."""
    other = replace(good.turns[0], id="turn_x", status="queued", finished_at=None)
    assert find(replace(good, turns=(*good.turns, other))) == {("P1", "turn_without_events")}


def test_a_session_that_runs_nothing_and_says_running(good, tamper, find):
    assert find(tamper.row(good, status="running"), settled=True) == {("P3", "session_status")}


# Tools ----------------------------------------------------------------------------------------------------


def test_a_tool_that_was_started_twice(good, tamper, find):
    assert find(tamper.repeated(good, tamper.at(good, "tool.started"))) == {("P6", "started_twice")}


def test_a_tool_that_was_run_again_after_its_outcome_was_unknown(good, tamper, find):
    unknown = tamper.at(good, "tool.outcome_unknown")
    again = ToolStarted(unknown.body.tool_call_id, unknown.body.name)
    assert find(tamper.inserted(good, unknown, again, unknown.turn_id)) == {
        ("P6", "started_twice"),
        ("P6", "started_after_outcome"),
    }


def test_a_tool_that_was_started_after_its_outcome(good, tamper, find):
    started, completed = tamper.at(good, "tool.started"), tamper.at(good, "tool.completed")
    assert find(tamper.swapped(good, started, completed)) == {("P6", "started_after_outcome"), ("P6", "no_intent")}


def test_a_tool_that_succeeded_without_being_started(good, tamper, find):
    assert find(tamper.without(good, tamper.at(good, "tool.started"))) == {("P6", "no_intent")}


def test_a_call_without_an_outcome(good, tamper, find):
    found = find(tamper.without(good, tamper.at(good, "tool.completed")))
    assert found == {("P6", "no_outcome"), ("P9", "refused")}


def test_a_call_with_two_outcomes(good, tamper, find):
    completed = tamper.at(good, "tool.completed")
    other = replace(completed.body, content="something else")
    assert ("P6", "two_outcomes") in find(tamper.inserted(good, completed, other, completed.turn_id))


def test_a_call_that_was_never_requested(good, tamper, find):
    completed = tamper.at(good, "tool.completed")
    foreign = ToolCompleted("call_x", "run_shell", "hi", error="stopped")
    assert ("P6", "unrequested") in find(tamper.inserted(good, completed, foreign, completed.turn_id))


def test_a_call_that_was_requested_twice(good, tamper, find):
    assert find(tamper.repeated(good, tamper.at(good, "tool.requested"))) == {("P6", "requested_twice")}


def test_a_tool_that_ran_although_nobody_had_approved_it(good, tamper, find):
    resolved = tamper.at(good, "approval.resolved")
    denied = tamper.changed(good, resolved, decision="deny")
    assert find(denied) == {("P6", "unapproved")}
    assert find(tamper.without(good, resolved)) == {("P6", "unapproved")}


def test_an_approval_that_comes_after_the_start_is_none(good, tamper, find):
    resolved = tamper.at(good, "approval.resolved")
    started = next(e for e in good.events if e.seq > resolved.seq and isinstance(e.body, ToolStarted))
    assert isinstance(resolved.body, ApprovalResolved)
    assert find(tamper.swapped(good, resolved, started)) >= {("P6", "unapproved")}


# Transcripts ----------------------------------------------------------------------------------------------


def test_a_call_id_that_stands_twice_in_the_conversation(good, tamper, find):
    """OpenAI takes it, Anthropic does not."""
    first = tamper.at(good, "message.completed", turn_id="turn_2").body.tool_calls[0].id
    changed = good
    for kind in ("message.completed", "tool.requested", "tool.started", "tool.outcome_unknown"):
        event = tamper.at(changed, kind, turn_id="turn_5")
        match event.body:
            case MessageCompleted():
                calls = tuple(replace(call, id=first) for call in event.body.tool_calls)
                changed = tamper.changed(changed, event, tool_calls=calls)
            case ToolRequested(call=call):
                changed = tamper.changed(changed, event, call=replace(call, id=first))
            case _:
                changed = tamper.changed(changed, event, tool_call_id=first)
    assert find(changed) == {("P9", "refused")}


def test_a_journal_that_cannot_be_folded(good, tamper, find):
    """A tool that nobody asked for: no host could take this session over."""
    started = tamper.at(good, "tool.started")
    unasked = tamper.without(good, tamper.at(good, "tool.requested"))
    assert started.body.tool_call_id
    assert find(unasked) >= {("P9", "cannot_be_folded"), ("P6", "unrequested")}


def test_a_pause_does_not_hide_a_broken_conversation(good, tamper, find):
    completed = tamper.at(good, "tool.completed")
    broken = tamper.without(good, completed)
    assert ("P9", "refused") in find(tamper.inserted(broken, broken.events[-1], SessionPaused(), None))
