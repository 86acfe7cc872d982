"""POST …/exec: a person runs a command, beside the model, under its policy and into its audit."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

COUNTED = ExecResult(
    "nonzero", 3, "one\ntwo\n", truncated=True, wall_s=0.12345, output_bytes=9, cpu_s=0.05678, peak_memory_bytes=1234
)
TAKEN = {"wall_s": 0.123, "output_bytes": 9, "cpu_s": 0.057, "peak_memory_bytes": 1234, "variables": None}


@pytest.fixture
def sandboxes():
    return FakeSandboxes({"wc -l x": COUNTED, "print(6 * 7)": ExecResult("ok", 0, "42\n")}, hanging={"sleep 9"})


@pytest.fixture
async def edge(make_edge, sandboxes):
    return await make_edge(sandboxes=sandboxes, sse_heartbeat_s=0.05)


@pytest.fixture
async def session(edge):
    """Opened over HTTP, and never brought into memory."""
    response = await edge.http.post("/api/v1/sessions", json={"id": "sess_1"})
    assert response.status_code == 201
    return "/api/v1/sessions/sess_1"


async def test_a_command_is_answered_with_how_it_ended(edge, session, sandboxes):
    response = await edge.http.post(f"{session}/exec", json={"command": "wc -l x", "timeout_s": 5})

    assert response.status_code == 200
    assert response.json() == {
        "verdict": "nonzero",
        "exit_code": 3,
        "output": "one\ntwo\n",
        "truncated": True,
        **TAKEN,
    }
    assert [(run.session_id, run.kind, run.source, run.timeout_s) for run in sandboxes.runs] == [
        ("sess_1", "shell", "wc -l x", 5)
    ]


async def test_a_program_is_run_for_as_long_as_the_server_lets_it(edge, session, sandboxes):
    response = await edge.http.post(f"{session}/exec", json={"python": "print(6 * 7)"})

    assert response.json()["output"] == "42\n"
    (run,) = sandboxes.runs
    assert (run.kind, run.timeout_s) == ("python", edge.services.settings.sandbox_command_s)


async def test_a_program_may_keep_its_variables(make_edge):
    sandboxes = FakeSandboxes({"x = 1": ExecResult("ok", 0, "", variables="new")})
    edge = await make_edge(sandboxes=sandboxes)
    await edge.http.post("/api/v1/sessions", json={"id": "s"})
    answer = (await edge.http.post("/api/v1/sessions/s/exec", json={"python": "x = 1", "keep": True})).json()

    assert (answer["variables"], answer["cpu_s"], answer["peak_memory_bytes"]) == ("new", None, None)
    assert [run.keep for run in sandboxes.runs] == [True]


async def test_the_session_is_not_woken_and_hears_nothing_of_it(edge, session):
    await edge.http.post(f"{session}/exec", json={"command": "ls"})

    assert not edge.host._sessions
    assert [event["type"] for event in await edge.events("sess_1")] == ["session.created"]


async def test_the_audit_says_that_it_was_a_person_and_with_which_key(edge, session):
    key = await edge.key_of("user_admin", "sessions:write")
    async with edge.client(key) as client:
        await client.post(f"{session}/exec", json={"command": "wc -l x"})

    assert [(r.action, r.decision) for r in edge.audit.records] == [
        ("command.run", "allowed"),
        ("command.run", "ended"),
    ]
    for record in edge.audit.records:
        assert (record.user_id, record.session_id, record.turn_id) == ("user_admin", "sess_1", None)
        assert (record.detail["by"], record.detail["key_id"]) == ("person", key.split("_")[1][:12])


async def test_what_the_policy_refuses_is_an_answer_and_is_not_run(make_edge, sandboxes):
    edge = await make_edge(sandboxes=sandboxes, policy_allowed_commands=("ls",))
    await edge.http.post("/api/v1/sessions", json={"id": "s"})
    response = await edge.http.post("/api/v1/sessions/s/exec", json={"command": "curl x"})

    assert response.status_code == 200
    assert (response.json()["verdict"], response.json()["exit_code"]) == ("policy", None)
    assert "curl" in response.json()["output"]
    assert sandboxes.runs == []
    assert [(r.decision, r.rule) for r in edge.audit.records] == [("refused", "allowed_commands")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": "ls", "python": "1"},
        {"command": ""},
        {"command": "ls", "keep": True},
        {"command": "ls", "timeout_s": 0},
        {"command": "ls", "timeout_s": 301},
        {"command": "ls", "cwd": "/"},
        {"command": 7},
    ],
)
async def test_what_is_no_request_runs_nothing(edge, session, sandboxes, problem_of, body):
    problem_of(await edge.http.post(f"{session}/exec", json=body), 422, "invalid_input")
    assert sandboxes.runs == []


async def test_a_key_that_could_not_be_honoured_is_refused(edge, session, sandboxes, problem_of):
    answer = await edge.http.post(f"{session}/exec", json={"command": "ls"}, headers={"Idempotency-Key": "k"})
    assert "second time" in problem_of(answer, 422, "invalid_input")["detail"]
    assert sandboxes.runs == []


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_session_of_somebody_else_is_not_found(edge, session, sandboxes, stranger, problem_of, accept):
    headers = {"Accept": accept}
    for path in ("sess_1", "none"):
        answer = await stranger.post(f"/api/v1/sessions/{path}/exec", json={"command": "ls"}, headers=headers)
        problem_of(answer, 404, "session_not_found")
    assert sandboxes.runs == []


async def test_it_needs_the_right_to_change_sessions(edge, session, problem_of):
    async with edge.client(await edge.key_of("user_admin", "chat", "sessions:read")) as client:
        problem_of(await client.post(f"{session}/exec", json={"command": "ls"}), 403, "forbidden")


async def test_without_a_sandbox_it_is_unavailable(make_edge, problem_of):
    edge = await make_edge(sandboxes=FakeSandboxes(unavailable=SandboxUnavailable("no bubblewrap")))
    await edge.http.post("/api/v1/sessions", json={"id": "s"})
    problem_of(await edge.http.post("/api/v1/sessions/s/exec", json={"command": "ls"}), 503, "sandbox_unavailable")


async def test_what_cannot_be_audited_is_not_run(edge, session, sandboxes, problem_of):
    edge.audit.unavailable = True
    problem_of(await edge.http.post(f"{session}/exec", json={"command": "ls"}), 503, "store_unavailable")
    assert sandboxes.runs == []


# As a stream ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "headers"), [({"stream": True}, {}), ({}, {"Accept": "text/event-stream"})])
async def test_output_comes_in_frames_and_the_result_last(edge, session, parse, body, headers):
    answer = await edge.http.post(f"{session}/exec", json={"command": "wc -l x", **body}, headers=headers)

    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = parse(answer.content)
    assert [(frame.event, frame.json()["type"]) for frame in frames] == [("output", "output"), ("result", "result")]
    assert frames[0].json() == {"type": "output", "offset": 0, "text": "one\ntwo\n"}
    assert frames[1].json() == {
        "type": "result",
        "verdict": "nonzero",
        "exit_code": 3,
        "output": "one\ntwo\n",
        "truncated": True,
        **TAKEN,
    }


async def test_output_is_sent_while_it_runs_and_numbered_by_characters(make_edge, read_until):
    said = asyncio.Event()

    class Talking(FakeSandboxes):
        async def shell(self, session_id, command, *, timeout_s, on_output=None):
            on_output("äb")
            await said.wait()
            on_output("c")
            return ExecResult("ok", 0, "äbc")

    edge = await make_edge(sandboxes=Talking(), sse_heartbeat_s=0.05)
    await edge.http.post("/api/v1/sessions", json={"id": "s"})
    body = {"command": "x", "stream": True}
    async with edge.streaming.stream("POST", "/api/v1/sessions/s/exec", json=body) as answer:
        pieces = answer.aiter_raw()
        got = b""
        while "äb".encode() not in got or b": ping" not in got:
            got += await anext(pieces)
        assert b"result" not in got
        said.set()
        rest = b"".join([piece async for piece in pieces])
    assert b'"offset":2,"text":"c"' in rest
    assert rest.index(b"event: output") < rest.index(b"event: result")


async def test_an_error_after_the_beginning_is_a_frame(make_edge, parse):
    edge = await make_edge(sandboxes=FakeSandboxes(unavailable=SandboxUnavailable("no bubblewrap")))
    await edge.http.post("/api/v1/sessions", json={"id": "s"})
    answer = await edge.http.post("/api/v1/sessions/s/exec", json={"command": "ls", "stream": True})
    (frame,) = parse(answer.content)
    assert (frame.event, frame.json()["code"], frame.json()["retryable"]) == ("error", "sandbox_unavailable", True)


# Its end --------------------------------------------------------------------------------------------


async def test_a_reader_that_goes_away_kills_the_command(edge, session, sandboxes, until):
    body = {"command": "sleep 9", "stream": True}
    async with asyncio.timeout(10), edge.streaming.stream("POST", f"{session}/exec", json=body):
        await sandboxes.started.wait()
    await until(lambda: len(edge.audit.records) == 2)
    assert [run.source for run in sandboxes.cancelled] == ["sleep 9"]
    assert edge.audit.records[-1].detail["verdict"] == "cancelled"


async def test_a_client_that_goes_away_kills_the_command(edge, session, sandboxes, until):
    request = edge.streaming.post(f"{session}/exec", json={"command": "sleep 9"})
    asking = asyncio.create_task(request)
    async with asyncio.timeout(10):
        await sandboxes.started.wait()
        asking.cancel()
        await asyncio.wait([asking])
    await until(lambda: sandboxes.cancelled)
    await until(lambda: len(edge.audit.records) == 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_session_that_is_deleted_ends_what_runs_in_it(edge, session, sandboxes, problem_of, parse, stream):
    asking = asyncio.create_task(edge.http.post(f"{session}/exec", json={"command": "sleep 9", "stream": stream}))
    async with asyncio.timeout(10):
        await sandboxes.started.wait()
        assert (await edge.http.delete(session)).status_code == 204
        answer = await asking
    if stream:
        (frame,) = parse(answer.content)
        assert (frame.event, frame.json()["code"]) == ("error", "session_not_found")
    else:
        problem_of(answer, 404, "session_not_found")
    assert [run.source for run in sandboxes.cancelled] == ["sleep 9"]
    assert not await sandboxes.holds("sess_1")


async def test_a_late_command_leaves_no_sandbox_of_a_deleted_session(edge, session, sandboxes):
    """The session is deleted between the look at it and the lease."""
    run = sandboxes.shell

    async def late(*args, **options):
        assert (await edge.http.delete(session)).status_code == 204
        return await run(*args, **options)

    sandboxes.shell = late
    await edge.http.post(f"{session}/exec", json={"command": "ls"})
    assert [each.source for each in sandboxes.runs] == ["ls"]
    assert not await sandboxes.holds("sess_1")


async def test_it_runs_beside_a_turn(make_edge):
    sandboxes = FakeSandboxes({"ls": ExecResult("ok", 0, "mine\n")}, hanging={"sleep 9"})
    llm = ScriptedLLM([calls(("run_shell", {"command": "sleep 9"}))], otherwise=says("Done."))
    edge = await make_edge(llm, sandboxes=sandboxes)
    accepted = await edge.http.post("/api/v1/chat", json={"message": "Go"}, headers={"Prefer": "respond-async"})
    session_id, turn_id = accepted.json()["session_id"], accepted.json()["turn_id"]
    async with asyncio.timeout(10):
        await sandboxes.started.wait()
    answer = await edge.http.post(f"/api/v1/sessions/{session_id}/exec", json={"command": "ls"})
    assert answer.json()["output"] == "mine\n"
    await edge.http.post(f"/api/v1/turns/{turn_id}/cancel")
    assert [(r.decision, r.detail.get("by")) for r in edge.audit.records] == [
        ("allowed", None),
        ("allowed", "person"),
        ("ended", "person"),
        ("ended", None),
    ]
