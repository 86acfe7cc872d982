"""Each method asks for what the HTTP surface offers, and reads what it answers."""

import json

import httpx
import pytest


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "asked"),
    [
        ("sessions", (), {}, ("GET", "/api/v1/sessions?limit=20", None)),
        ("sessions", (), {"limit": 5, "after": "sess_1"}, ("GET", "/api/v1/sessions?limit=5&after=sess_1", None)),
        ("create_session", (), {"id": "mine", "model": None}, ("POST", "/api/v1/sessions", {"id": "mine"})),
        ("session", ("sess_1",), {}, ("GET", "/api/v1/sessions/sess_1", None)),
        ("session", ("../admin?x",), {}, ("GET", "/api/v1/sessions/..%2Fadmin%3Fx", None)),
        ("events", ("sess_1",), {"after": 7}, ("GET", "/api/v1/sessions/sess_1/events?after=7&limit=100", None)),
        ("turn", ("turn_1",), {}, ("GET", "/api/v1/turns/turn_1", None)),
        ("cancel", ("turn_1",), {}, ("POST", "/api/v1/turns/turn_1/cancel", None)),
        (
            "costs",
            (),
            {"group_by": "user", "since": "2026-11-01", "everyone": True},
            ("GET", "/api/v1/costs?group_by=user&from=2026-11-01&everyone=true", None),
        ),
        ("estimate", ("hi",), {"model": "m"}, ("POST", "/api/v1/estimate", {"message": "hi", "model": "m"})),
        ("models", (), {}, ("GET", "/api/v1/models", None)),
        ("health", (), {}, ("GET", "/health", None)),
        ("ready", (), {}, ("GET", "/ready", None)),
        (
            "chat",
            ("hello",),
            {"session_id": "sess_1", "metadata": {"a": 1}},
            ("POST", "/api/v1/chat", {"message": "hello", "session_id": "sess_1", "metadata": {"a": 1}}),
        ),
        (
            "chat",
            ("hello",),
            {"on_busy": "reject", "approvals": ["run_shell"], "idempotency_key": "k"},
            ("POST", "/api/v1/chat", {"message": "hello", "on_busy": "reject", "approvals": ["run_shell"]}),
        ),
        (
            "send",
            ("sess_1", "hello"),
            {"model": "m", "on_busy": "steer"},
            ("POST", "/api/v1/sessions/sess_1/messages", {"message": "hello", "model": "m", "on_busy": "steer"}),
        ),
        ("inbox", ("sess_1",), {}, ("GET", "/api/v1/sessions/sess_1/inbox", None)),
        (
            "edit",
            ("sess_1", "msg/1", "other"),
            {},
            ("PATCH", "/api/v1/sessions/sess_1/inbox/msg%2F1", {"message": "other"}),
        ),
        ("pause", ("sess_1",), {}, ("POST", "/api/v1/sessions/sess_1/pause", None)),
        ("resume", ("sess_1",), {}, ("POST", "/api/v1/sessions/sess_1/resume", None)),
        ("interrupt", ("sess_1",), {}, ("POST", "/api/v1/sessions/sess_1/interrupt", None)),
        ("fork", ("sess_1",), {}, ("POST", "/api/v1/sessions/sess_1/fork", {})),
        (
            "fork",
            ("sess_1",),
            {"from_event": 7, "include": ["workspace"]},
            ("POST", "/api/v1/sessions/sess_1/fork", {"from_event": 7, "include": ["workspace"]}),
        ),
        ("turn_events", ("turn_1",), {"after": 7}, ("GET", "/api/v1/turns/turn_1/events?after=7&limit=100", None)),
        ("approvals", (), {}, ("GET", "/api/v1/approvals", None)),
        (
            "approvals",
            (),
            {"session_id": "sess_1", "status": "pending", "limit": 5, "after": "appr_1"},
            ("GET", "/api/v1/approvals?session_id=sess_1&status=pending&limit=5&after=appr_1", None),
        ),
        ("approval", ("appr_1",), {}, ("GET", "/api/v1/approvals/appr_1", None)),
        ("resolve", ("appr_1", "approve"), {}, ("POST", "/api/v1/approvals/appr_1", {"decision": "approve"})),
        (
            "resolve",
            ("appr_1", "deny"),
            {"reason": "no"},
            ("POST", "/api/v1/approvals/appr_1", {"decision": "deny", "reason": "no"}),
        ),
    ],
)
def test_asks_and_gives_the_json_object(driver, method, args, kwargs, asked):
    server = driver.serve(httpx.Response(200, json={"the": "answer"}))

    assert driver.call(method, *args, **kwargs) == {"the": "answer"}

    (request,) = server.asked
    body = json.loads(request.content) if request.content else None
    assert (request.method, request.url.raw_path.decode(), body) == asked
    assert request.headers["authorization"] == "Bearer grk_key"


@pytest.mark.parametrize(
    ("method", "args", "path"),
    [
        ("delete_session", ("sess_1",), "/api/v1/sessions/sess_1"),
        ("withdraw", ("sess_1", "msg_1"), "/api/v1/sessions/sess_1/inbox/msg_1"),
    ],
)
def test_delete_has_no_body_to_read(driver, method, args, path):
    server = driver.serve(httpx.Response(204))

    assert driver.call(method, *args) is None

    assert [(request.method, request.url.path) for request in server.asked] == [("DELETE", path)]


def test_a_turn_that_takes_long_is_answered_by_its_ids(driver):
    driver.serve(httpx.Response(202, json={"session_id": "sess_1", "turn_id": "turn_1"}))
    assert driver.call("chat", "hello") == {"session_id": "sess_1", "turn_id": "turn_1"}


def test_not_ready_is_a_report_and_no_error(driver):
    driver.serve(httpx.Response(503, json={"status": "unhealthy", "checks": []}))
    assert driver.call("ready")["status"] == "unhealthy"
