"""Problem documents: one shape for every error, and a status for every code."""

import httpx
import pytest

from actors.core import errors
from actors.core.errors import GreenroomError
from actors.core.telemetry import REGISTRY
from serve_app.problems import STATUS, problem

SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


def every_error() -> list[type[GreenroomError]]:
    found = [GreenroomError]
    for error in found:
        found.extend(error.__subclasses__())
    return [error for error in found if error.__module__ == errors.__name__]


@pytest.mark.parametrize("error", every_error(), ids=lambda e: e.__name__)
def test_every_code_has_a_status(error):
    assert error.code in STATUS


def test_input_is_the_callers_fault_and_the_rest_is_ours():
    for error in every_error():
        status = STATUS[error.code]
        theirs = issubclass(error, errors.InputError | errors.AccessError | errors.NotFoundError)
        assert (400 <= status < 500) or not theirs, error
        assert status >= 500 or not issubclass(error, errors.UnavailableError), error


@pytest.mark.parametrize("path", ["/nope", "/api/v1/nope", "/api/v2/chat", "/ui/none.js", "/api/v1", "/%00"])
async def test_what_is_not_there_is_404(edge, problem_of, path):
    response = await edge.http.get(path)

    problem_of(response, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/v1/chat", {"POST"}),
        ("PUT", "/api/v1/sessions", {"GET", "POST"}),
        ("PATCH", "/api/v1/sessions/s", {"GET", "DELETE"}),
        ("POST", "/health", {"GET"}),
        ("DELETE", "/api/v1/turns/t", {"GET"}),
    ],
)
async def test_a_wrong_method_is_405_and_names_the_right_ones(edge, problem_of, method, path, allowed):
    response = await edge.http.request(method, path)

    problem_of(response, 405, "method_not_allowed")
    named = {name.strip() for name in response.headers.get("allow", "").split(",")}
    # Routes of one path that differ by method answer for themselves, so at least one of them is named.
    assert named & allowed
    assert named <= allowed | {"HEAD"}


@pytest.mark.parametrize("path", ["/", "/livez", "/ready", "/health", "/docs", "/ui/app.js"])
async def test_probes_that_ask_for_headers_only_are_answered(edge, path):
    response = await edge.http.head(path)

    assert (response.status_code, response.content) == (200, b"")


async def test_a_defect_is_500_without_a_word_of_its_insides(edge, problem_of):
    @edge.app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("password=hunter2")

    response = await edge.http.get("/crash")

    body = problem_of(response, 500, "internal")
    assert "hunter2" not in response.text
    assert body["retryable"] is False
    assert SECURITY.items() <= dict(response.headers).items()


async def test_the_details_of_our_errors_stay_inside(edge, problem_of):
    @edge.app.get("/lost")
    async def lost() -> None:
        raise errors.SessionLost("gone", session_id="sess_1", host="10.0.0.7", dsn="postgresql://u:p@db")

    response = await edge.http.get("/lost")

    body = problem_of(response, 503, "session_lost")
    assert body["session_id"] == "sess_1"
    assert "host" not in body
    assert "dsn" not in body
    assert response.headers["retry-after"] == "1"


async def test_details_never_replace_the_members_of_the_standard(edge, problem_of):
    @edge.app.get("/odd")
    async def odd() -> None:
        raise errors.InvalidInput("wrong", status=200, type="x", title="y", code="z", request_id="r", field="f")

    body = problem_of(await edge.http.get("/odd"), 422, "invalid_input")

    assert body["field"] == "f"


def test_a_problem_can_be_written_whatever_its_text_is():
    response = problem("req_1", "/x", code="invalid_input", detail="a\ud800b")

    assert response.status_code == 422


async def test_every_answer_has_its_id_and_the_security_headers(edge):
    paths = ["/", "/ui/app.js", "/health", "/metrics", "/docs", "/openapi.json", "/api/v1/sessions", "/nope"]
    answers = [await edge.http.get(path) for path in paths]
    answers.append(await edge.http.post("/api/v1/chat", content=b"{"))
    answers.append(await edge.http.post("/api/v1/chat", json={"message": "Hi", "stream": True}))

    for answer in answers:
        assert SECURITY.items() <= dict(answer.headers).items(), answer.url
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    ids = [answer.headers["request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(request_id.startswith("req_") for request_id in ids)


async def test_scripts_in_the_page_are_allowed_in_the_docs_only(edge):
    for path in ("/", "/ui/index.html", "/api/v1/sessions"):
        assert "unsafe" not in (await edge.http.get(path)).headers["content-security-policy"], path
    assert "'unsafe-inline'" in (await edge.http.get("/docs")).headers["content-security-policy"]


async def test_what_is_private_is_never_cached(edge):
    answer = await edge.say("Hi")
    for path in ("/api/v1/sessions", f"/api/v1/turns/{answer['turn_id']}", "/metrics", "/health"):
        assert (await edge.http.get(path)).headers["cache-control"] == "no-store", path


async def test_requests_are_counted_by_route_and_not_by_path(edge):
    before = _requests("/api/v1/sessions/{session_id}", "GET", "404")

    for number in range(3):
        await edge.http.get(f"/api/v1/sessions/s{number}")

    assert _requests("/api/v1/sessions/{session_id}", "GET", "404") == before + 3


async def test_paths_and_methods_of_strangers_make_no_series(edge):
    before = _requests("other", "GET", "404")
    series = len(list(_series()))

    for number in range(5):
        await edge.http.get(f"/scan/{number}.php")
        await edge.http.request(f"METHOD{number}", "/livez")

    assert _requests("other", "GET", "404") == before + 5
    assert len(list(_series())) - series < 4


async def test_the_time_of_a_stream_is_not_the_time_of_a_request(edge):
    labels = {"method": "POST", "status": "200"}
    before = REGISTRY.get_sample_value("agent_request_duration_seconds_count", labels) or 0

    await edge.http.post("/api/v1/chat", json={"message": "Hi", "stream": True})
    streamed = REGISTRY.get_sample_value("agent_request_duration_seconds_count", labels) or 0
    await edge.http.post("/api/v1/chat", json={"message": "Hi"})

    assert streamed == before
    assert REGISTRY.get_sample_value("agent_request_duration_seconds_count", labels) == before + 1


async def test_a_client_that_leaves_while_it_sends_is_no_error_of_ours(edge, logged):
    """The body breaks off: there is nobody to answer, and nothing to count as a failure of the server."""
    before = _requests("/api/v1/chat", "POST", "500")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/v1/chat",
        "raw_path": b"/api/v1/chat",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"host", b"test")],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    messages = iter([{"type": "http.request", "body": b'{"mess', "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    await edge.app(scope, receive, send)

    assert _requests("/api/v1/chat", "POST", "500") == before


def _requests(route: str, method: str, status: str) -> float:
    labels = {"route": route, "method": method, "status": status}
    return REGISTRY.get_sample_value("agent_requests_total", labels) or 0


def _series():
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name == "agent_requests_total":
                yield sample


async def test_the_transport_of_these_tests_shows_what_a_server_would(edge):
    """A crash reaches the server that runs the API, which logs it: the border answers and raises."""

    @edge.app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("boom")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge.app), base_url="http://test") as client:
        with pytest.raises(RuntimeError, match="boom"):
            await client.get("/crash")
