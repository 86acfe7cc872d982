"""What clients were told, against a journal that says something else: P1, P5, P8, and effects outside of it."""

from dataclasses import replace

import pytest

from cluster.verify import (
    Answered,
    CancelAnswered,
    CancelSent,
    Closed,
    Effects,
    HistoryChecker,
    ModelCalls,
    Seen,
    Sent,
    Unanswered,
)


@pytest.fixture
def changed(good_log):
    """The good log with other members in the nth record of a kind."""

    def changed(kind, nth=0, **members):
        wanted = [record for record in good_log if isinstance(record, kind)][nth]
        return [replace(record, **members) if record is wanted else record for record in good_log]

    return changed


# P1 -------------------------------------------------------------------------------------------------------


def test_an_acknowledged_message_that_is_not_there(good, good_log, find):
    extra = [
        Sent("rx", "are you there?", good.session_id),
        Answered("rx", 200, session_id=good.session_id, turn_id="turn_x"),
    ]
    assert find(good, [*good_log, *extra]) == {("P1", "lost_message")}


def test_a_message_whose_answer_was_lost_may_be_there_or_not(good, good_log, find):
    unknown = [Sent("rx", "are you there?", good.session_id), Unanswered("rx", "ReadTimeout")]
    assert find(good, [*good_log, *unknown]) == set()
    without_answer = [record for record in good_log if not (isinstance(record, Answered) and record.request == "r2")]
    assert find(good, without_answer) == set()


@pytest.mark.parametrize("status", [404, 413, 429, 500, 503])
def test_an_answer_that_acknowledges_nothing(good, good_log, find, status):
    refused = [Sent("rx", "are you there?", good.session_id), Answered("rx", status, session_id=good.session_id)]
    assert find(good, [*good_log, *refused]) == set()


def test_a_message_that_was_refused_and_is_there(good, changed, find):
    """The client was told no, and its message runs all the same."""
    log = changed(Answered, status=429, turn_id=None, message_id=None, seq=None)
    assert find(good, log) == {("P1", "never_sent")}


def test_a_message_with_another_content(good, changed, find):
    log = changed(Sent, content="something else")
    assert find(good, log) == {("P1", "other_content"), ("P1", "never_sent")}


def test_a_message_that_no_client_sent(good, good_log, find):
    unsent = [record for record in good_log if getattr(record, "request", None) != "r2"]
    assert find(good, unsent) == {("P1", "never_sent")}


def test_a_message_that_runs_more_often_than_it_was_sent(good, tamper, find):
    """Without a key each request is a message of its own; here there were fewer requests than messages."""
    first, second = tamper.at(good, "message.accepted"), tamper.at(good, "message.accepted", 1)
    twice = tamper.changed(good, second, content=first.body.content)
    others = [e.body.content for e in good.events if e.body.type == "message.accepted"][2:]
    log = [Sent(f"r{at}", content, good.session_id) for at, content in enumerate([first.body.content, *others])]
    assert find(twice, log) == {("P1", "held_too_often")}
    assert find(twice, [*log, Sent("again", first.body.content, good.session_id)]) == set()


@pytest.mark.parametrize("members", [{"message_id": "msg_x"}, {"seq": 3}])
def test_ids_that_are_not_those_of_the_journal(good, changed, find, members):
    rule = "other_number" if "seq" in members else "other_message_id"
    assert find(good, changed(Answered, **members)) == {("P1", rule)}


def test_a_session_that_is_gone(good, good_log, find):
    assert find([], good_log) == {("P1", "lost_session")}


def test_other_clients_sessions_are_nobodys_business(good, find):
    assert find(good, [Sent("r1", "hello", "sess_other"), Unanswered("r1", "ReadTimeout")]) == set()


# P5 -------------------------------------------------------------------------------------------------------


def again(good, request, **members):
    """The first message again under its key, and its answer."""
    first = next(event for event in good.events if event.body.type == "message.accepted")
    sent = Sent(request, first.body.content, good.session_id, key=f"k{first.seq}", body="same")
    answered = Answered(request, 200, session_id=good.session_id, turn_id=first.turn_id, replayed=True)
    return replace(sent, **{k: v for k, v in members.items() if k in ("content", "body", "user", "route")}), replace(
        answered, **{k: v for k, v in members.items() if k in ("status", "turn_id", "code")}
    )


@pytest.fixture
def same(changed):
    """The good log, in which the first request's body has the digest `same`."""
    return changed(Sent, body="same")


def test_a_repeat_that_gets_the_same_turn(good, same, find):
    assert find(good, [*same, *again(good, "rx")]) == set()


def test_a_repeat_that_gets_another_turn(good, same, find):
    assert ("P5", "two_turns") in find(good, [*same, *again(good, "rx", turn_id="turn_2")])


def test_a_key_of_another_user_or_route_is_another_key(good, same, find):
    first = again(good, "rx", user="ben", turn_id="turn_2", content="remember tea")
    assert find(good, [*same, *first]) == set()


def test_a_repeat_that_ran_again(good, tamper, find):
    """Two turns of one message under one key, of which the client was told nothing."""
    first, second = tamper.at(good, "message.accepted"), tamper.at(good, "message.accepted", 1)
    twice = tamper.changed(good, second, content=first.body.content)
    others = [e.body.content for e in good.events if e.body.type == "message.accepted"][2:]
    log = [Sent(f"r{at}", content, good.session_id) for at, content in enumerate(others)]
    log += [Sent(name, first.body.content, good.session_id, key="k") for name in ("a", "b")]
    assert find(twice, log) == {("P5", "held_too_often")}


@pytest.mark.parametrize(
    ("status", "found"), [(422, False), (429, False), (503, False), (200, True), (400, True), (409, True)]
)
def test_another_body_under_a_key(good, same, find, status, found):
    turn = "turn_1" if status == 200 else None
    other = again(good, "rx", content="another", body="another", status=status, turn_id=turn)
    assert (("P5", "other_body") in find(good, [*same, *other])) == found


def test_another_body_that_was_sent_before_the_first_was_answered_may_be_refused_as_busy(good, same, find):
    sent, answered = again(good, "rx", content="another", body="another", status=409, turn_id=None)
    assert find(good, [sent, *same, answered]) == set()


@pytest.mark.parametrize(("count", "found"), [(0, True), (1, False), (2, True)])
def test_model_calls_that_the_ledger_does_not_know(good, good_log, find, count, found):
    """turn_1 has one attempt and one whole answer."""
    others = [one for one in good_log if not (isinstance(one, ModelCalls) and one.turn_id == "turn_1")]
    assert find(good, [*others, ModelCalls("turn_1", count)]) == ({("P5", "model_calls")} if found else set())


@pytest.mark.parametrize("count", [0, 1])
def test_a_call_that_broke_off_may_have_been_answered_or_not(good, good_log, find, count):
    others = [one for one in good_log if not (isinstance(one, ModelCalls) and one.turn_id == "turn_4")]
    assert find(good, [*others, ModelCalls("turn_4", count)]) == set()


# P6 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "found"), [(0, False), (1, False), (2, True)])
def test_an_effect_that_happened_again(good, good_log, find, count, found):
    effects = Effects(good.session_id, "append line 7", count, "turn_5")
    assert find(good, [*good_log, effects]) == ({("P6", "effect_repeated")} if found else set())


# P8 -------------------------------------------------------------------------------------------------------


def test_a_cancel_that_takes_too_long(good, good_log, find):
    late = [one for one in good_log if not isinstance(one, CancelSent | CancelAnswered)]
    cancel = [CancelSent("x1", good.session_id, "turn_4"), CancelAnswered("x1", 200, "cancelled")]
    assert find(good, [*late, *cancel], apart_s=16.0) == {("P8", "slow_cancel")}
    assert find(good, [*late, *cancel], apart_s=14.0) == set()


@pytest.mark.parametrize(
    ("status", "rule"), [("running", "still_running"), ("completed", "other_status"), ("cancelled", None), (None, None)]
)
def test_what_a_cancel_was_told(good, changed, find, status, rule):
    assert find(good, changed(CancelAnswered, turn_status=status)) == ({("P8", rule)} if rule else set())


@pytest.mark.parametrize("status", [404, 503])
def test_a_cancel_that_was_not_done(good, find, status):
    cancel = [CancelSent("x1", good.session_id, "turn_x"), CancelAnswered("x1", status)]
    assert find(good, cancel) == set()


def test_a_cancel_that_was_answered_and_ended_nothing(good, tamper, find):
    end = tamper.at(good, "turn.cancelled", turn_id="turn_4")
    unended = replace(tamper.without(good, end), turns=None)
    cancel = [CancelSent("x1", good.session_id, "turn_4"), CancelAnswered("x1", 200, "cancelled")]
    assert ("P8", "not_one_end") in find(unended, cancel, settled=False)


def test_a_cancel_of_a_turn_that_nobody_knows(good, find):
    cancel = [CancelSent("x1", good.session_id, "turn_x"), CancelAnswered("x1", 200, "cancelled")]
    assert find(good, cancel) == {("P8", "unknown_turn")}


def test_what_follows_a_cancel(good, tamper, find):
    end = tamper.at(good, "turn.cancelled", turn_id="turn_4")
    said = tamper.at(good, "message.completed", turn_id="turn_4")
    broken = tamper.inserted(good, end, said.body, "turn_4")
    cancel = [CancelSent("x1", good.session_id, "turn_4"), CancelAnswered("x1", 200, "cancelled")]
    assert find(broken, cancel) >= {("P8", "after_cancel"), ("P2", "event_after_end")}


def test_a_turn_that_went_on_after_its_cancel_was_answered(good, good_log, tamper, find):
    from datetime import timedelta

    end = tamper.at(good, "turn.cancelled", turn_id="turn_4")
    hours = timedelta(hours=1)
    late = tuple(replace(e, created_at=e.created_at + hours) if e is end else e for e in good.events)
    broken = tamper.turn_row(replace(good, events=late), "turn_4", finished_at=end.created_at + hours)
    cancels = [one for one in good_log if isinstance(one, CancelSent | CancelAnswered)]
    assert find(broken, cancels) == {("P8", "after_answer")}


# The log itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [Answered("r", 200), Seen("c", 1, "x", "y"), Closed("c"), CancelAnswered("x", 200)])
def test_a_log_that_begins_in_the_middle_is_no_evidence(entries, record):
    with pytest.raises(ValueError, match="client log speaks of"):
        HistoryChecker(entries([record]))


def test_sessions_that_were_not_handed_in(good, good_log, entries):
    checker = HistoryChecker(entries(good_log))
    assert checker.unchecked == {good.session_id}
    checker.check(good)
    assert checker.unchecked == frozenset()
    left_out = HistoryChecker(entries(good_log))
    left_out.leave_out(good.session_id)
    assert left_out.finish() == ()
