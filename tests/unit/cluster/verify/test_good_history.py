"""A session that was hosted for real, and what its clients really saw, break no promise."""

from dataclasses import replace

from actors.core.events import SessionPaused, Spent, TurnStarted
from cluster.verify import Deleted, Sent, Unrecognised


def test_it_saw_everything(good):
    """Whatever the checker can be right about by never having met it."""
    seen = {event.body.type for event in good.events}
    assert seen >= {
        *("session.created", "session.paused", "session.resumed"),
        *("message.accepted", "message.edited", "message.steered", "message.completed"),
        *("turn.queued", "turn.started", "turn.recovering", "turn.waiting", "turn.resumed"),
        *("turn.completed", "turn.cancelled"),
        *("tool.requested", "tool.started", "tool.completed", "tool.outcome_unknown"),
        *("approval.requested", "approval.resolved", "usage.updated"),
    }


def test_it_breaks_no_promise(good, good_log, find):
    assert find(good) == set()
    assert find(good, good_log) == set()


def test_every_moment_of_it_is_good_while_it_runs(good, find):
    """Each prefix is what somebody else may read while the session goes on."""
    for length in range(1, len(good.events) + 1):
        prefix = replace(good, events=good.events[:length], session=None, turns=None, attempts=None)
        assert find(prefix, settled=False) == set(), f"after event {length}"


def test_a_turn_that_waits_for_a_person_may_stay_open(good, tamper, find):
    waiting = tamper.at(good, "turn.waiting").seq
    assert find(replace(good, events=good.events[:waiting], session=None, turns=None, attempts=None)) == set()


def test_a_paused_session_may_stay_as_it_is(good, tamper, find):
    started = tamper.at(good, "turn.started")
    cut = replace(good, events=good.events[: started.seq], session=None, turns=None, attempts=None)
    assert find(cut) == {("P3", "unended")}
    paused = replace(started, seq=started.seq + 1, turn_id=None, body=SessionPaused())
    assert find(replace(cut, events=(*cut.events, paused))) == set()


def test_a_trimmed_journal_is_good(trimmed, good_log, find):
    assert find(trimmed) == set()
    assert find(trimmed, good_log) == set(), "clients saw what is gone"


def test_what_was_trimmed_is_summed_up_rightly(trimmed, find):
    stub = trimmed.events[0]
    wrong = replace(stub, body=replace(stub.body, spent=Spent()))
    assert find(replace(trimmed, events=(wrong, *trimmed.events[1:]))) == {("ledger", "running_total")}


def test_only_turns_that_have_ended_are_trimmed(trimmed, good, find):
    left = replace(good.turns[0], status="running", finished_at=None)
    assert find(replace(trimmed, turns=(left, *trimmed.turns))) == {("P3", "trimmed_unended")}
    ended = replace(trimmed, turns=(good.turns[0], *trimmed.turns))
    assert find(ended) == set(), "a row that was left over harms nobody"


def test_a_fork_holds_messages_that_nobody_sent_to_it(good, find):
    from actors.agent.fork import forked
    from actors.core.clock import SystemClock
    from actors.core.ids import uuid7_ids
    from cluster.verify import SessionEvidence

    clock = SystemClock()
    events = forked(good.events[:40], "sess_fork", new_id=uuid7_ids(clock), now=clock.now())
    fork = SessionEvidence("sess_fork", events)
    assert find(fork, [Sent("r1", "something new", "sess_fork")]) == set()


def test_a_session_that_was_deleted_is_missed_by_nobody(good, good_log, find):
    assert ("P1", "lost_session") in find([], good_log)
    assert find([], [*good_log, Deleted(good.session_id)]) == set()


def test_events_of_a_newer_version_are_left_alone(good, tamper, find):
    newer = Unrecognised("subagent.started", {"agent": "scout", "depth": 1})
    for after in (good.events[0], tamper.at(good, "turn.started"), good.events[-1]):
        assert find(tamper.inserted(good, after, newer, after.turn_id)) == set()
    assert find(tamper.inserted(good, tamper.at(good, "turn.completed"), newer, "turn_1")) == set()


def test_messages_of_one_line_run_in_its_order(good):
    """By hand, so that the checker's idea of the order is not only its own."""
    started = [event.turn_id for event in good.events if isinstance(event.body, TurnStarted)]
    assert started == ["turn_1", "turn_2", "turn_4", "turn_7", "turn_5", "turn_8"]
