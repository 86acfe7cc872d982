"""Requests that are wrong: each gets an answer that says what, and harms nobody else."""

import asyncio
import json

import pytest

MIB = 1024 * 1024
JSON = {"content-type": "application/json"}


async def test_an_empty_message_is_refused(edge, problem_of):
    for message in ("", " ", "\n\t \u2003"):
        response = await edge.http.post("/api/v1/chat", json={"message": message})
        body = problem_of(response, 422, "invalid_input")
        assert body["errors"] == [{"field": "message", "message": "the message is empty"}]
        assert "message" in body["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": None}, "message"),
        ({"message": 3}, "message"),
        ({"message": ["Hi"]}, "message"),
        ({"message": "Hi", "model": 3}, "model"),
        ({"message": "Hi", "model": "m" * 201}, "model"),
        ({"message": "Hi", "system": 3}, "system"),
        ({"message": "Hi", "system": "s" * 100_001}, "system"),
        ({"message": "Hi", "stream": "perhaps"}, "stream"),
        ({"message": "Hi", "metadata": "none"}, "metadata"),
        ({"message": "Hi", "metadata": None}, "metadata"),
        ({"message": "Hi", "metadata": []}, "metadata"),
        ({"message": "Hi", "session_id": 3}, "session_id"),
        ({"message": "Hi", "session_id": ""}, "session_id"),
        ({"message": "Hi", "session_id": "a b"}, "session_id"),
        ({"message": "Hi", "session_id": "x" * 65}, "session_id"),
        ({"message": "Hi", "session_id": "sess\n"}, "session_id"),
        ({"message": "Hi", "session_id": "../etc"}, "session_id"),
        ({"message": "Hi", "session_id": "séance"}, "session_id"),
        ({"message": "Hi", "mesage": "Hi"}, "mesage"),
        ({"message": "Hi", "sessionId": "x"}, "sessionId"),
    ],
    ids=str,
)
async def test_a_wrong_member_is_named(edge, problem_of, body, field):
    response = await edge.http.post("/api/v1/chat", json=body)

    problem = problem_of(response, 422, "invalid_input")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert field in problem["detail"]
    assert (await edge.http.get("/api/v1/sessions")).json()["data"] == []


async def test_all_that_is_wrong_is_said_at_once(edge, problem_of):
    response = await edge.http.post("/api/v1/chat", json={"message": 1, "stream": "x", "extra": 1})

    errors = problem_of(response, 422, "invalid_input")["errors"]
    assert {error["field"] for error in errors} == {"message", "stream", "extra"}


@pytest.mark.parametrize("content", [b"[]", b'"Hi"', b"3", b"null", b""])
async def test_a_body_that_is_no_object_is_refused(edge, problem_of, content):
    problem_of(await edge.http.post("/api/v1/chat", content=content, headers=JSON), 422, "invalid_input")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"message": "Hi"',
        b"{'message': 'Hi'}",
        b"message=Hi",
        b'{"message": "\xff\xfe"}',
        b"\x00",
        b'{"message": "Hi", "metadata": {"n": ' + b"9" * 5000 + b"}}",
        b'{"message": "Hi", "metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=["cut", "unclosed", "quotes", "form", "no UTF-8", "nul", "huge number", "deep", "very deep"],
)
async def test_a_body_that_is_no_json_is_malformed(edge, problem_of, content):
    problem_of(await edge.http.post("/api/v1/chat", content=content, headers=JSON), 400, "malformed")


@pytest.mark.parametrize("depth", [50, 150, 200, 260, 900])
async def test_deep_metadata_is_kept_or_refused_but_never_an_error_of_ours(edge, depth):
    content = b'{"message": "Hi", "metadata": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"

    response = await edge.http.post("/api/v1/chat", content=content, headers=JSON)

    assert response.status_code in {200, 400, 422}, response.text
    assert (await edge.http.get("/api/v1/sessions")).status_code == 200, "one session has made all of them unreadable"
    if response.status_code == 200:
        session = await edge.http.get(f"/api/v1/sessions/{response.json()['session_id']}")
        assert session.json()["metadata"] == json.loads(content)["metadata"]


@pytest.mark.parametrize("depth", [260, 950])
async def test_deep_metadata_of_a_created_session_too(edge, depth):
    content = b'{"id": "deep", "metadata": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"

    response = await edge.http.post("/api/v1/sessions", content=content, headers=JSON)

    assert response.status_code in {201, 400, 422}, response.text


@pytest.mark.parametrize(
    "body",
    [
        rb'{"message": "a\ud800b"}',
        rb'{"message": "\udc00\ud800"}',
        rb'{"message": "Hi", "system": "\ud800"}',
        rb'{"message": "Hi", "model": "\ud800"}',
        rb'{"message": "Hi", "session_id": "\ud800"}',
        rb'{"message": "Hi", "metadata": {"k": "\ud800"}}',
        rb'{"message": "Hi", "metadata": {"\ud800": 1}}',
        rb'{"message": "Hi", "metadata": {"k": [{"l": "x\udfff"}]}}',
        rb'{"message": "Hi", "\ud800": 1}',
    ],
)
async def test_a_lone_surrogate_is_refused_wherever_it_stands(edge, problem_of, body):
    problem_of(await edge.http.post("/api/v1/chat", content=body, headers=JSON), 422, "invalid_input")


@pytest.mark.parametrize(
    "body",
    [rb'{"system": "\ud800"}', rb'{"model": "\ud800"}', rb'{"metadata": {"k": "\ud800"}}', rb'{"\ud800": 1}'],
)
async def test_a_lone_surrogate_is_refused_in_a_new_session(edge, problem_of, body):
    problem_of(await edge.http.post("/api/v1/sessions", content=body, headers=JSON), 422, "invalid_input")


@pytest.mark.parametrize("path", ["chat", "sessions", "sessions/there/messages"])
@pytest.mark.parametrize("model", [r"de\u0000mo", r"demo\n", r"\u009b1m"])
async def test_a_control_character_is_in_no_name_of_a_model(edge, problem_of, path, model):
    """One of the databases takes no NUL in a text, and says so with the whole statement."""
    said = "" if path == "sessions" else '"message": "Hi", '
    body = f'{{{said}"model": "{model}"}}'

    await edge.http.post("/api/v1/sessions", json={"id": "there"})
    response = await edge.http.post(f"/api/v1/{path}", content=body.encode(), headers=JSON)

    problem_of(response, 422, "invalid_input")


async def test_a_pair_of_surrogates_is_a_character(edge):
    response = await edge.http.post("/api/v1/chat", content=rb'{"message": "\ud83d\ude42"}', headers=JSON)

    events = await edge.events(response.json()["session_id"])
    assert events[1]["content"] == "🙂"


@pytest.mark.parametrize(
    "content", [b'{"message": "Hi", "metadata": {"n": NaN}}', b'{"message":"Hi","metadata":{"n":-Infinity}}']
)
async def test_numbers_that_are_no_json_are_refused(edge, problem_of, content):
    response = await edge.http.post("/api/v1/chat", content=content, headers=JSON)

    # They would come back as null: something else than what was sent.
    assert response.status_code in {400, 422}, response.text


async def test_what_cannot_be_stored_does_not_harm_the_neighbours_in_the_same_commit(edge):
    sessions = [(await edge.say("Hi"))["session_id"] for _ in range(6)]
    poison = rb'{"message": "Hi", "metadata": {"k": "\ud800"}}'

    async with asyncio.TaskGroup() as group:
        good = []
        for session in sessions:
            group.create_task(edge.http.post("/api/v1/chat", content=poison, headers=JSON))
            good.append(
                group.create_task(edge.http.post("/api/v1/chat", json={"message": "Go on", "session_id": session}))
            )

    assert [task.result().status_code for task in good] == [200] * len(sessions)
    for session in sessions:
        assert (await edge.say("Still there?", session_id=session))["message"] == "Hello world"


# Sizes ----------------------------------------------------------------------------------------------


async def test_a_message_of_just_the_limit_is_taken(edge):
    answer = await edge.say("é" * (MIB // 2))

    assert answer["message"] == "Hello world"


@pytest.mark.parametrize("message", ["x" * (MIB + 1), "é" * (MIB // 2) + "x"], ids=["ascii", "two bytes a letter"])
async def test_a_message_of_one_byte_more_is_too_large(edge, problem_of, message):
    response = await edge.http.post("/api/v1/chat", json={"message": message})

    body = problem_of(response, 413, "message_too_large")
    assert body["limit_bytes"] == MIB
    assert "1,048,576" in body["detail"]


async def test_a_body_that_says_it_is_too_large_is_not_read(edge, problem_of):
    read = 0

    async def body():
        nonlocal read
        for _ in range(20):
            read += 1
            yield b" " * MIB

    headers = {**JSON, "content-length": str(20 * MIB)}
    response = await edge.http.post("/api/v1/chat", content=body(), headers=headers)

    problem_of(response, 413, "message_too_large")
    assert read == 0


async def test_a_body_without_a_length_is_read_up_to_the_limit(edge, problem_of):
    read = 0

    async def body():
        nonlocal read
        for _ in range(20):
            read += 1
            yield b" " * MIB

    response = await edge.http.post("/api/v1/chat", content=body(), headers=JSON)

    problem_of(response, 413, "message_too_large")
    assert read < 12


@pytest.mark.parametrize("length", ["abc", "-1", "1_000", "", " 12 x"])
async def test_a_length_that_is_no_number_is_the_clients_mistake(edge, length):
    request = edge.http.build_request("POST", "/api/v1/chat", content=b"{}", headers=JSON)
    request.headers["content-length"] = length
    response = await edge.http.send(request)

    assert 400 <= response.status_code < 500, response.text


async def test_metadata_has_a_limit(edge, problem_of):
    assert (await edge.http.post("/api/v1/sessions", json={"metadata": {"k": "x" * 16_000}})).status_code == 201
    response = await edge.http.post("/api/v1/sessions", json={"metadata": {"k": "x" * 17_000}})

    assert "16384" in problem_of(response, 422, "invalid_input")["detail"]


async def test_the_limit_of_metadata_counts_bytes(edge, problem_of):
    response = await edge.http.post("/api/v1/sessions", json={"metadata": {"k": "語" * 10_000}})

    problem_of(response, 422, "invalid_input")


# Paths and queries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd", ["a%20b", "%00", "x" * 65, "..%2f..%2fetc", "%F0%9F%99%82", "a;b", "%C3%28", "a'--", "sess%0A"]
)
@pytest.mark.parametrize("path", ["/api/v1/sessions/{}", "/api/v1/sessions/{}/events", "/api/v1/turns/{}"])
async def test_ids_with_odd_characters_are_refused_or_not_found(edge, path, odd):
    response = await edge.http.get(path.format(odd))

    assert response.status_code in {404, 422}, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=ten", "limit"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=1.5", "after"),
        ("after=99999999999999999999", "after"),
        (f"after={2**63}", "after"),
    ],
)
async def test_a_wrong_query_of_events_is_named(edge, problem_of, query, field):
    session = (await edge.say("Hi"))["session_id"]

    response = await edge.http.get(f"/api/v1/sessions/{session}/events?{query}")

    assert [e["field"] for e in problem_of(response, 422, "invalid_input")["errors"]] == [field]


@pytest.mark.parametrize("number", ["-1", "x", str(2**63), "9" * 30])
async def test_a_wrong_last_event_id_is_named(edge, problem_of, number):
    session = (await edge.say("Hi"))["session_id"]

    response = await edge.http.get(f"/api/v1/sessions/{session}/events", headers={"last-event-id": number})

    problem_of(response, 422, "invalid_input")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=a%20b"])
async def test_a_wrong_query_of_sessions_is_named(edge, problem_of, query):
    problem_of(await edge.http.get(f"/api/v1/sessions?{query}"), 422, "invalid_input")


async def test_a_body_that_is_not_sent_as_json_is_refused_with_the_cure(edge, problem_of):
    response = await edge.http.post(
        "/api/v1/chat", content=b'{"message": "Hi"}', headers={"content-type": "text/plain"}
    )

    body = response.json()
    assert response.status_code in {415, 422}
    assert "application/json" in body["detail"], body["detail"]
