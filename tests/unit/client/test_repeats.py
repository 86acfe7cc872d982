"""Calls whose connection breaks are repeated where that does nothing twice, and nowhere else."""

import httpx
import pytest

from actors.core.errors import GreenroomError, UnavailableError

MAKING = [
    ("chat", ("hello",)),
    ("send", ("sess_1", "hello")),
    ("create_session", ()),
    ("fork", ("sess_1",)),
]
SAFE = [
    ("cancel", ("turn_1",)),
    ("pause", ("sess_1",)),
    ("resume", ("sess_1",)),
    ("interrupt", ("sess_1",)),
    ("resolve", ("appr_1", "approve")),
    ("edit", ("sess_1", "msg_1", "other")),
    ("withdraw", ("sess_1", "msg_1")),
    ("session", ("sess_1",)),
    ("events", ("sess_1",)),
    ("models", ()),
    ("approvals", ()),
]
BROKEN = [httpx.ReadError("reset"), httpx.WriteError("reset"), httpx.RemoteProtocolError("closed")]


@pytest.mark.parametrize(("method", "args"), MAKING, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("broken", BROKEN, ids=lambda error: type(error).__name__)
def test_what_makes_something_is_repeated_under_one_key(driver, method, args, broken):
    server = driver.serve(broken, httpx.ConnectError("refused"), httpx.Response(200, json={"the": "answer"}))

    assert driver.call(method, *args) == {"the": "answer"}

    assert len(server.asked) == 3
    assert len({request.headers["idempotency-key"] for request in server.asked}) == 1
    assert len({request.content for request in server.asked}) == 1


@pytest.mark.parametrize(("method", "args"), SAFE, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_safe_by_its_nature_is_repeated_without_one(driver, method, args):
    server = driver.serve(httpx.ReadError("reset"), httpx.Response(200, json={}))

    driver.call(method, *args)

    assert len(server.asked) == 2
    assert all("idempotency-key" not in request.headers for request in server.asked)


def test_deleting_a_session_is_not_repeated(driver):
    """The second answer would be that there is no such session."""
    server = driver.serve(httpx.ReadError("reset"))

    with pytest.raises(UnavailableError):
        driver.call("delete_session", "sess_1")
    assert len(server.asked) == 1


@pytest.mark.parametrize(("method", "args"), MAKING, ids=lambda value: value if isinstance(value, str) else "")
def test_each_call_has_a_key_of_its_own(driver, method, args):
    server = driver.serve(*[httpx.Response(200, json={}) for _ in range(2)])

    for _ in range(2):
        driver.call(method, *args)

    keys = [request.headers["idempotency-key"] for request in server.asked]
    assert len(set(keys)) == 2
    assert all(key.isascii() and 1 <= len(key) <= 255 for key in keys)


@pytest.mark.parametrize(("method", "args"), MAKING, ids=lambda value: value if isinstance(value, str) else "")
def test_a_key_may_be_chosen(driver, method, args):
    server = driver.serve(httpx.Response(200, json={}))

    driver.call(method, *args, idempotency_key="order-66")

    assert server.asked[0].headers["idempotency-key"] == "order-66"
    assert b"order-66" not in server.asked[0].content


def test_nobody_there_is_said_at_once(driver):
    server = driver.serve(httpx.ConnectError("refused"))

    with pytest.raises(UnavailableError, match="greenroom up"):
        driver.call("chat", "hello")
    assert len(server.asked) == 1


def test_a_server_that_says_nothing_is_not_asked_twice(driver):
    server = driver.serve(httpx.ReadTimeout("silent"))

    with pytest.raises(UnavailableError):
        driver.call("chat", "hello")
    assert len(server.asked) == 1


def test_it_gives_up_and_says_how_to_go_on(driver):
    server = driver.serve(*[httpx.ReadError("reset")] * 4)

    with pytest.raises(UnavailableError, match="may have been accepted") as caught:
        driver.call("chat", "hello")

    assert len(server.asked) == 4
    assert caught.value.details["idempotency_key"] == server.asked[0].headers["idempotency-key"]


def test_a_server_that_comes_back_is_waited_for(driver, wire):
    server = driver.serve(
        httpx.ReadError("reset"),
        httpx.Response(503, content=b"<html>no server is available</html>"),
        wire.problem(503, "draining"),
        httpx.Response(200, json={"the": "answer"}),
    )

    assert driver.call("chat", "hello") == {"the": "answer"}
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "code", "members"),
    [
        (503, "model_unavailable", {"turn_id": "turn_1"}),
        (409, "session_busy", {"turn_id": "turn_1"}),
        (429, "inbox_full", {}),
        (422, "idempotency_key_reused", {}),
    ],
    ids=["a turn that failed", "busy", "full", "another body"],
)
@pytest.mark.parametrize("breaks", [0, 1])
def test_an_answer_is_an_answer(driver, wire, status, code, members, breaks):
    """Under its key a turn that failed would only be told again."""
    server = driver.serve(*[httpx.ReadError("reset")] * breaks, wire.problem(status, code, **members))

    with pytest.raises(GreenroomError) as caught:
        driver.call("chat", "hello")

    assert type(caught.value).code == code
    assert len(server.asked) == breaks + 1


def test_a_refusal_that_may_pass_is_the_callers_to_decide_on(driver, wire):
    server = driver.serve(wire.problem(503, "at_capacity"))

    with pytest.raises(GreenroomError):
        driver.call("chat", "hello")
    assert len(server.asked) == 1
