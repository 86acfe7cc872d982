"""Who may call what. Other users' things cannot be told from things that are not there."""

import httpx
import pytest

from actors.security.keys import ADMIN

PROTECTED = [
    ("POST", "/api/v1/chat"),
    ("GET", "/api/v1/sessions"),
    ("POST", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/s"),
    ("DELETE", "/api/v1/sessions/s"),
    ("GET", "/api/v1/sessions/s/events"),
    ("GET", "/api/v1/turns/t"),
    ("POST", "/api/v1/sessions/s/messages"),
    ("GET", "/api/v1/sessions/s/inbox"),
    ("PATCH", "/api/v1/sessions/s/inbox/m"),
    ("DELETE", "/api/v1/sessions/s/inbox/m"),
    ("POST", "/api/v1/sessions/s/pause"),
    ("POST", "/api/v1/sessions/s/resume"),
    ("POST", "/api/v1/sessions/s/interrupt"),
    ("POST", "/api/v1/sessions/s/fork"),
    ("GET", "/api/v1/turns/t/events"),
    ("POST", "/api/v1/turns/t/cancel"),
    ("GET", "/api/v1/approvals"),
    ("GET", "/api/v1/approvals/a"),
    ("POST", "/api/v1/approvals/a"),
    ("GET", "/api/v1/models"),
]


def body_of(method: str, path: str) -> dict[str, str] | None:
    """A body that is right, so that only the key can be wrong."""
    if method == "PATCH" or path.endswith(("chat", "messages")):
        return {"message": "Hi"}
    if path.endswith("approvals/a"):
        return {"decision": "deny"}
    return {} if method == "POST" else None


OPEN = ["/", "/ui/app.js", "/health", "/livez", "/ready", "/metrics", "/docs", "/openapi.json"]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
async def test_without_a_key_nothing_is_told(edge, problem_of, method, path):
    async with edge.client(None) as client:
        response = await client.request(method, path, json=body_of(method, path))

    problem_of(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_below_a_prefix_it_is_the_same(edge, problem_of):
    """Serve may serve it under a prefix: the path then begins with a part that is not ours."""
    key = await edge.key_of("user_1", ADMIN)
    below = httpx.ASGITransport(edge.app, root_path="/below", raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=below, base_url="http://test/below") as client:
        for method, path in PROTECTED:
            body = body_of(method, path)
            without = await client.request(method, path, json=body)
            with_key = await client.request(method, path, json=body, headers={"authorization": f"Bearer {key}"})
            problem_of(without, 401, "unauthenticated")
            assert with_key.status_code in {200, 201, 204, 404}, with_key.text


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"wrong": 1}', b""])
async def test_without_a_key_not_even_what_is_wrong_with_the_body(edge, problem_of, content):
    async with edge.client(None) as client:
        response = await client.post("/api/v1/chat", content=content, headers={"content-type": "application/json"})

    problem_of(response, 401, "unauthenticated")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer grk_x",
        "Bearer grk_000000000000_00000000000000000000000000000000000000",
        "Basic YTpi",
        "grk_000000000000_x",
        "Bearer \xff\xfe",
        "Bearer " + "x" * 10_000,
    ],
)
async def test_a_key_that_is_none_is_refused(edge, problem_of, header):
    async with edge.client(None) as client:
        response = await client.get("/api/v1/sessions", headers={"authorization": header.encode("latin-1")})

    problem_of(response, 401, "unauthenticated")


async def test_a_key_with_a_wrong_secret_is_refused(edge, problem_of):
    key = await edge.key_of("user_1", "chat")
    other = await edge.key_of("user_1", "chat")
    public = key.split("_")[1]

    async with edge.client(f"grk_{public}_{other.split('_')[2]}") as client:
        problem_of(await client.get("/api/v1/models"), 401, "unauthenticated")


@pytest.mark.parametrize("path", OPEN)
async def test_pages_and_probes_are_open(edge, path):
    async with edge.client(None) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (
            "chat",
            {
                "POST /api/v1/chat",
                "POST /api/v1/turns/t/cancel",
                "POST /api/v1/sessions/s/messages",
                "PATCH /api/v1/sessions/s/inbox/m",
                "DELETE /api/v1/sessions/s/inbox/m",
                "POST /api/v1/sessions/s/pause",
                "POST /api/v1/sessions/s/resume",
                "POST /api/v1/sessions/s/interrupt",
            },
        ),
        ("approvals:resolve", {"POST /api/v1/approvals/a"}),
        (
            "sessions:read",
            {
                "GET /api/v1/sessions",
                "GET /api/v1/sessions/s",
                "GET /api/v1/sessions/s/events",
                "GET /api/v1/sessions/s/inbox",
                "GET /api/v1/turns/t",
                "GET /api/v1/turns/t/events",
                "GET /api/v1/approvals",
                "GET /api/v1/approvals/a",
                "GET /api/v1/models",
            },
        ),
        (
            "sessions:write",
            {"POST /api/v1/sessions", "DELETE /api/v1/sessions/s", "POST /api/v1/sessions/s/fork"},
        ),
        (ADMIN, {f"{method} {path}" for method, path in PROTECTED}),
    ],
)
async def test_a_scope_allows_just_this(edge, problem_of, scope, allowed):
    async with edge.client(await edge.key_of("user_1", scope)) as client:
        for method, path in PROTECTED:
            body = body_of(method, path)
            response = await client.request(method, path, json=body)
            if f"{method} {path}" in allowed:
                assert response.status_code in {200, 201, 204, 404}, (path, response.text)
            else:
                assert scope not in problem_of(response, 403, "forbidden")["detail"]


async def test_a_key_without_scopes_may_nothing(edge, problem_of):
    async with edge.client(await edge.key_of("user_1")) as client:
        body = problem_of(await client.post("/api/v1/chat", json={"message": "Hi"}), 403, "forbidden")

    assert "chat" in body["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/sessions/{session}"),
        ("DELETE", "/api/v1/sessions/{session}"),
        ("GET", "/api/v1/sessions/{session}/events"),
        ("GET", "/api/v1/turns/{turn}"),
        ("POST", "/api/v1/turns/{turn}/cancel"),
        ("GET", "/api/v1/sessions?after={session}"),
    ],
)
async def test_what_is_anothers_looks_as_if_it_were_not_there(edge, stranger, method, path):
    mine = await edge.say("Secret")
    known = path.format(session=mine["session_id"], turn=mine["turn_id"])
    unknown = path.format(
        session="sess_" + "0" * len(mine["session_id"][5:]), turn="turn_" + "0" * len(mine["turn_id"][5:])
    )

    found, missing = await stranger.request(method, known), await stranger.request(method, unknown)

    assert found.status_code == 404
    assert found.headers["content-type"] == "application/problem+json"
    assert _without_ids(found, mine) == _without_ids(missing, mine)
    assert (await edge.http.get(f"/api/v1/sessions/{mine['session_id']}")).status_code == 200


async def test_anothers_session_cannot_be_talked_to(edge, stranger, problem_of):
    mine = await edge.say("Secret")
    before = await edge.events(mine["session_id"])

    for stream in (False, True):
        body = {"message": "Hi", "session_id": mine["session_id"], "stream": stream}
        theirs = await stranger.post("/api/v1/chat", json=body)
        missing = await stranger.post("/api/v1/chat", json={**body, "session_id": "sess_" + "0" * 32})
        problem_of(theirs, 404, "session_not_found")
        assert _without_ids(theirs, mine) == _without_ids(missing, mine)

    assert await edge.events(mine["session_id"]) == before


async def test_anothers_stream_cannot_be_read(edge, stranger, problem_of):
    mine = await edge.say("Secret")

    response = await stranger.get(
        f"/api/v1/sessions/{mine['session_id']}/events", headers={"accept": "text/event-stream"}
    )

    problem_of(response, 404, "session_not_found")


async def test_the_id_of_anothers_session_cannot_be_taken(edge, stranger, problem_of):
    await edge.http.post("/api/v1/sessions", json={"id": "mine"})

    problem_of(await stranger.post("/api/v1/sessions", json={"id": "mine"}), 409, "session_exists")


async def test_lists_are_of_one_user(edge, stranger):
    await edge.say("Mine")
    theirs = (await stranger.post("/api/v1/chat", json={"message": "Theirs"})).json()

    listed = (await stranger.get("/api/v1/sessions")).json()["data"]

    assert [session["id"] for session in listed] == [theirs["session_id"]]


def _without_ids(response, mine):
    """The problem without what names the request itself."""
    body = response.json()
    drop = {"request_id", "instance", "session_id", "turn_id"}
    zeros = {mine["session_id"], mine["turn_id"], "sess_" + "0" * 32, "turn_" + "0" * 32}
    text = repr({name: value for name, value in sorted(body.items()) if name not in drop})
    for value in zeros:
        text = text.replace(value, "ID")
    return response.status_code, text
