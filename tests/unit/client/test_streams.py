"""Streams yield every event once, go on where they broke, and give up in the end."""

import httpx
import pytest

from actors.core.errors import CursorExpired, GreenroomError, ModelRefused, UnavailableError


def kinds(items):
    return [(item.seq, item.type) for item in items]


def test_a_turn_ends_the_stream(driver, wire):
    server = driver.serve(
        wire.stream(
            wire.event(1, "message.accepted"),
            wire.event(2, "turn.started"),
            wire.delta("Hi"),
            wire.event(3, "turn.completed"),
            wire.event(4, "message.accepted", turn="turn_2"),
        )
    )

    items = driver.read("stream", "hello", session_id="sess_1")

    assert kinds(items) == [
        (1, "message.accepted"),
        (2, "turn.started"),
        (None, "message.delta"),
        (3, "turn.completed"),
    ]
    assert items[2].is_preview
    assert items[2].data["text"] == "Hi"
    assert not items[3].is_preview
    assert server.asked[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("breaks", [True, False], ids=["reset", "ended early"])
def test_a_broken_turn_goes_on_after_the_last_event(driver, wire, breaks):
    server = driver.serve(
        wire.stream(wire.event(5, "message.accepted"), wire.event(6, "turn.started"), breaks=breaks),
        wire.stream(wire.event(6, "turn.started"), wire.event(7, "turn.completed")),
    )

    assert kinds(driver.read("stream", "hello")) == [
        (5, "message.accepted"),
        (6, "turn.started"),
        (7, "turn.completed"),
    ]
    resumed = server.asked[1]
    assert (resumed.method, resumed.url.path) == ("GET", "/api/v1/sessions/sess_1/events")
    assert resumed.headers["last-event-id"] == "6"


def test_a_resumed_turn_leaves_other_turns_out(driver, wire):
    driver.serve(
        wire.stream(wire.event(1, "message.accepted"), breaks=True),
        wire.stream(
            wire.event(2, "turn.completed", turn="turn_0"),
            wire.delta("other", turn="turn_0"),
            wire.event(3, "turn.cancelled"),
        ),
    )
    assert kinds(driver.read("stream", "hello")) == [(1, "message.accepted"), (3, "turn.cancelled")]


def test_a_server_that_drains_is_asked_again(driver, wire):
    driver.serve(
        wire.stream(wire.event(1, "message.accepted"), breaks=True),
        wire.problem(503, "draining"),
        httpx.ConnectError("refused"),
        wire.stream(wire.event(2, "turn.completed")),
    )
    assert kinds(driver.read("stream", "hello"))[-1] == (2, "turn.completed")


def test_it_gives_up_after_so_many_attempts_without_progress(driver, wire):
    server = driver.serve(
        wire.stream(wire.event(1, "message.accepted"), breaks=True), *[httpx.ConnectError("refused")] * 3
    )
    with pytest.raises(UnavailableError, match="3 attempts"):
        driver.read("stream", "hello", max_resumes=3)
    assert len(server.asked) == 4


def test_progress_resets_the_attempts(driver, wire):
    breaking = [wire.stream(wire.event(seq, "tool.progress"), breaks=True) for seq in range(2, 8)]
    driver.serve(
        wire.stream(wire.event(1, "message.accepted"), breaks=True),
        *breaking,
        wire.stream(wire.event(8, "turn.completed")),
    )
    assert [item.seq for item in driver.read("stream", "hello", max_resumes=1)] == list(range(1, 9))


@pytest.mark.parametrize(
    "lost",
    [httpx.ReadError("reset"), httpx.RemoteProtocolError("closed"), httpx.ReadTimeout("silent"), None],
    ids=["reset", "closed", "silent", "in the answer"],
)
def test_an_opening_that_was_lost_is_sent_again_under_its_key(driver, wire, lost):
    server = driver.serve(
        lost or wire.stream(breaks=True),
        httpx.ConnectError("refused"),
        wire.problem(503, "draining"),
        wire.stream(wire.event(1, "message.accepted"), wire.event(2, "turn.completed")),
    )

    assert kinds(driver.read("stream", "hello")) == [(1, "message.accepted"), (2, "turn.completed")]

    assert [(request.method, request.url.path) for request in server.asked] == [("POST", "/api/v1/chat")] * 4
    assert len({request.headers["idempotency-key"] for request in server.asked}) == 1
    assert len({request.content for request in server.asked}) == 1


def test_an_opening_that_is_never_answered_says_how_to_go_on(driver, wire):
    server = driver.serve(wire.stream(breaks=True), *[httpx.ConnectError("refused")] * 3)

    with pytest.raises(UnavailableError, match="may have been accepted") as caught:
        driver.read("stream", "hello", max_resumes=3)

    key = server.asked[0].headers["idempotency-key"]
    assert caught.value.details["idempotency_key"] == key
    assert key in caught.value.message
    assert len(server.asked) == 4


@pytest.mark.parametrize(("status", "code"), [(409, "session_busy"), (429, "inbox_full"), (422, "invalid_input")])
def test_a_refusal_of_a_repeat_is_raised_too(driver, wire, status, code):
    server = driver.serve(wire.stream(breaks=True), wire.problem(status, code, turn_id="turn_1"))

    with pytest.raises(GreenroomError) as caught:
        driver.read("stream", "hello")

    assert type(caught.value).code == code
    assert len(server.asked) == 2


def test_a_refusal_is_raised_as_it_is(driver, wire):
    server = driver.serve(wire.problem(503, "at_capacity", "full"))
    with pytest.raises(GreenroomError, match="full"):
        driver.read("stream", "hello")
    assert len(server.asked) == 1


def test_an_error_that_does_not_pass_ends_a_resumed_stream(driver, wire):
    driver.serve(wire.stream(wire.event(1, "message.accepted"), breaks=True), wire.problem(502, "model_refused"))
    with pytest.raises(ModelRefused):
        driver.read("stream", "hello")


def test_an_answer_that_is_no_stream(driver):
    driver.serve(httpx.Response(200, json={}))
    with pytest.raises(GreenroomError, match="did not answer with a stream"):
        driver.read("stream", "hello")


def test_follow_reads_every_turn_from_a_number_on(driver, wire):
    server = driver.serve(
        wire.stream(wire.event(4, "turn.completed"), wire.delta("x", turn="turn_2"), breaks=True),
        wire.stream(wire.event(4, "turn.completed"), wire.event(5, "message.accepted", turn="turn_2")),
    )

    items = driver.read("follow", "sess_1", after=3, limit=3)

    assert kinds(items) == [(4, "turn.completed"), (None, "message.delta"), (5, "message.accepted")]
    assert [request.headers["last-event-id"] for request in server.asked] == ["3", "4"]


def test_follow_says_when_the_history_is_gone(driver, wire):
    driver.serve(wire.problem(410, "cursor_expired", oldest_seq=9))
    with pytest.raises(CursorExpired) as caught:
        driver.read("follow", "sess_1")
    assert caught.value.details["oldest_seq"] == 9


def test_follow_from_the_start_begins_at_what_is_there(driver, wire):
    server = driver.serve(wire.stream(wire.event(9, "history.trimmed", turn=None)))

    assert kinds(driver.read("follow", "sess_1", limit=1)) == [(9, "history.trimmed")]
    assert "last-event-id" not in server.asked[0].headers


def test_a_stream_that_ends_with_an_error_is_resumed_when_that_may_pass(driver, wire):
    driver.serve(
        wire.stream(wire.event(1, "message.accepted"), wire.error("session_lost")),
        wire.stream(wire.event(2, "turn.completed")),
    )

    assert kinds(driver.read("stream", "hello")) == [(1, "message.accepted"), (2, "turn.completed")]


def test_a_stream_that_ends_with_an_error_that_does_not_pass_raises_it(driver, wire):
    server = driver.serve(
        wire.stream(wire.event(4, "turn.started"), wire.error("cursor_expired", retryable=False, oldest_seq=9))
    )

    with pytest.raises(CursorExpired) as caught:
        driver.read("follow", "sess_1", after=3)

    assert caught.value.details["oldest_seq"] == 9
    assert len(server.asked) == 1


# The stream of one turn ----------------------------------------------------------------------------


def test_a_turn_is_followed_to_its_end_over_breaks(driver, wire):
    server = driver.serve(
        wire.stream(wire.event(7, "turn.started"), breaks=True),
        wire.stream(wire.event(8, "message.accepted", turn="turn_2"), wire.event(9, "turn.completed")),
    )

    items = driver.read("follow_turn", "turn_1", after=6)

    assert kinds(items) == [(7, "turn.started"), (9, "turn.completed")]
    assert server.asked[0].url.path == "/api/v1/turns/turn_1/events"
    assert [request.headers["last-event-id"] for request in server.asked] == ["6", "7"]


def test_a_turn_of_which_nothing_is_left_to_tell_ends_at_once(driver):
    server = driver.serve(httpx.Response(204))

    assert driver.read("follow_turn", "turn_1", after=11) == []
    assert len(server.asked) == 1


def test_following_a_turn_is_asked_for_again_when_nobody_answers(driver, wire):
    driver.serve(
        wire.problem(503, "store_unavailable"),
        httpx.ReadError("reset"),
        wire.stream(wire.event(9, "turn.completed")),
    )

    assert kinds(driver.read("follow_turn", "turn_1")) == [(9, "turn.completed")]
