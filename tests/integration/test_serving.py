"""The whole of it over HTTP: HAProxy, a Serve replica, session actors."""

import asyncio
import json
import os
import signal

import httpx
import psutil
import pytest
from httpx_sse import aconnect_sse
from prometheus_client.parser import text_string_to_metric_families

from actors.register import SESSION_PREFIX, named_actors
from serve_app.calls import error_from

SLOW = {"reply": {"text": ["One ", "two ", "three ", "four"], "gap_s": 0.5}}
ENDLESS = {"reply": {"text": ["Wait", " for", " ever"], "cut_after": 4, "ending": "hang"}}
SSE = {"accept": "text/event-stream"}


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected, serve_environment, served, key):
    order = {"serve": json.loads(served.model_dump_json()), "small": "/small"}
    with run_node(order, **serve_environment) as address, connected(address):
        yield


def said(directive) -> dict:
    return {"message": directive if isinstance(directive, str) else json.dumps(directive)}


async def tasks_in(actor) -> int:
    """How much is under way on the event loop of a session actor."""

    def count(shell) -> int:
        import asyncio

        return len(asyncio.all_tasks(shell._host._task.get_loop()))

    return await actor.__ray_call__.remote(count)


def session_actors() -> dict:
    return named_actors(SESSION_PREFIX, "greenroom")


def replicas(temp_dir) -> list[psutil.Process]:
    """The replicas of this module's cluster: their parent is its raylet, which has the folder in its arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if not any(word.startswith("ray::ServeReplica:greenroom:Api") for word in process.info["cmdline"] or ()):
            continue
        parent = process.parent()
        if parent is not None and any(str(temp_dir) in word for word in parent.cmdline()):
            found.append(process)
    return found


async def test_everything_is_healthy_and_says_what_it_is(http, eventually):
    async def healthy():
        body = (await http.get("/health")).json()
        return body if {check["status"] for check in body["checks"]} <= {"healthy", "warning"} else None

    body = await eventually(healthy)
    checks = {check["name"]: check for check in body["checks"]}
    assert checks.keys() == {"database", "sessions", "cluster", "sandbox", "memory", "model"}
    assert checks["sessions"]["status"] == "healthy"
    assert "2 session actors" in checks["sessions"]["message"]


async def test_a_chat_as_json(http):
    response = await http.post("/api/v1/chat", json=said("Hi"))

    assert response.status_code == 200, response.text
    assert response.json()["message"] == "Hello from the script."
    assert response.headers["request-id"].startswith("req_")


async def test_a_session_that_lives_in_no_process_can_be_deleted(http):
    session = (await http.post("/api/v1/sessions", json={})).json()["id"]

    first = await http.delete(f"/api/v1/sessions/{session}")
    again = await http.delete(f"/api/v1/sessions/{session}")

    assert (first.status_code, again.status_code) == (204, 404), first.text


async def test_a_chat_as_a_stream_that_is_shown_as_it_comes(http):
    shown_before_the_end = ""
    types: list[str] = []

    async with aconnect_sse(http, "POST", "/api/v1/chat", json={**said(SLOW), "stream": True}) as source:
        async for event in source.aiter_sse():
            if event.event == "message.delta":
                shown_before_the_end += event.json()["text"]
            elif event.data:
                types.append(event.event)

    assert types[0] == "message.accepted"
    assert types[-1] == "turn.completed"
    assert len(shown_before_the_end) > 5


async def test_many_clients_at_once(http):
    async def converse() -> None:
        first = await http.post("/api/v1/chat", json=said("Hi"))
        assert first.status_code == 200, first.text
        session = first.json()["session_id"]
        answer = await http.post("/api/v1/chat", json={**said("More"), "session_id": session, "stream": True})
        assert answer.text.count("event: turn.completed") == 1

    async with asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(converse())


async def test_a_client_that_leaves_does_not_stop_the_turn_and_another_follows_it(http):
    async with http.stream("POST", "/api/v1/chat", json={**said(SLOW), "stream": True}) as response:
        session, turn = response.headers["x-session-id"], response.headers["x-turn-id"]
        async for line in response.aiter_lines():
            if line == "event: message.delta":
                break

    numbers: list[int] = []
    async with asyncio.timeout(60), aconnect_sse(http, "GET", f"/api/v1/sessions/{session}/events") as source:
        async for event in source.aiter_sse():
            if event.data and "seq" in event.json():
                numbers.append(event.json()["seq"])
            if event.event == "turn.completed":
                break

    assert numbers == [1, 2, 3, 4, 5, 6]
    assert (await http.get(f"/api/v1/turns/{turn}")).json()["status"] == "completed"


async def test_a_client_that_leaves_while_it_waits_for_json_does_not_stop_the_turn(http, eventually):
    session = (await http.post("/api/v1/sessions", json={})).json()["id"]
    with pytest.raises(httpx.ReadTimeout):
        await http.post("/api/v1/chat", json={**said(SLOW), "session_id": session}, timeout=0.7)

    async def completed():
        events = (await http.get(f"/api/v1/sessions/{session}/events")).json()["data"]
        return [event["type"] for event in events if event["type"].startswith("turn.")]

    async def ended():
        found = await completed()
        return found if found[-1:] == ["turn.completed"] else None

    assert await eventually(ended) == ["turn.started", "turn.completed"]


async def test_streams_that_are_cut_leave_nothing_running(http, eventually):
    async with http.stream("POST", "/api/v1/chat", json={**said(ENDLESS), "stream": True}) as response:
        session, turn = response.headers["x-session-id"], response.headers["x-turn-id"]
        async for line in response.aiter_lines():
            if line == "event: message.delta":
                break
    actors = session_actors()
    assert len(actors) == 2

    async def busy() -> dict[str, int]:
        return {name: await tasks_in(actor) for name, actor in actors.items()}

    before = await busy()

    async def cut() -> None:
        async with http.stream("GET", f"/api/v1/sessions/{session}/events", headers=SSE) as response:
            async for line in response.aiter_lines():
                if line == "event: message.delta":
                    return

    for _ in range(4):
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(cut())

    async def quiet():
        now = await busy()
        return all(now[name] <= before[name] + 4 for name in now)

    await eventually(quiet)
    status = [await actor.status.remote() for actor in actors.values()]
    assert sum(one.running for one in status) == 1
    assert (await http.post(f"/api/v1/turns/{turn}/cancel")).json()["status"] == "cancelled"


async def test_metrics_of_every_process_come_from_one_address(http):
    response = await http.get("/metrics")
    processes: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            processes.setdefault(sample.name, set()).add(sample.labels["process"])

    assert {"session:0", "session:1"} <= processes["agent_active_sessions"]
    assert "memory" in processes["agent_active_sessions"]
    assert any(name.startswith("sandbox:") for name in processes["agent_active_sessions"])
    assert "directory" in processes["agent_active_sessions"]
    assert len([name for name in processes["agent_requests_total"] if name.startswith("api:")]) >= 1
    assert processes["agent_turns_total"] & {"session:0", "session:1"}


async def test_bodies_that_are_too_large_are_refused_through_the_proxy_too(http):
    refused = await http.post("/api/v1/chat", json={"message": "x" * (1024 * 1024 + 1)})
    assert (refused.status_code, refused.json()["code"]) == (413, "message_too_large")

    async def endless():
        for _ in range(12):
            yield b" " * 1024 * 1024

    try:
        refused = await http.post("/api/v1/chat", content=endless(), headers={"content-type": "application/json"})
    except httpx.TransportError:
        return  # the server stopped reading and closed, which is an answer as well
    assert (refused.status_code, refused.json()["code"]) == (413, "message_too_large")


async def test_errors_come_through_the_proxy_as_they_are(http):
    for method, path, status in (
        ("GET", "/api/v1/sessions/none", 404),
        ("PUT", "/api/v1/chat", 405),
        ("GET", "/nope", 404),
    ):
        response = await http.request(method, path)
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        assert response.headers.get_list("request-id") == [response.json()["request_id"]]


async def test_more_requests_than_a_replica_takes_are_told_to_come_back(http):
    """Serve answers these before our code sees them: in its own words, which the client has to understand."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(http.post("/small/api/v1/chat", json=said(SLOW))) for _ in range(16)]

    answers = [task.result() for task in tasks]
    taken = [answer for answer in answers if answer.status_code == 200]
    assert 2 <= len(taken) < 16, [answer.text for answer in answers]
    assert {answer.json()["message"] for answer in taken} == {"One two three four"}
    for answer in answers:
        if answer not in taken:
            assert answer.status_code in {429, 503}
            assert error_from(answer.status_code, answer.content).retryable


async def test_the_replica_is_replaced_when_it_dies_and_turns_do_not_notice(http, short_dir, eventually):
    receipt = (await http.post("/api/v1/chat", json=said(SLOW), headers={"prefer": "respond-async"})).json()
    (replica,) = replicas(short_dir)
    replica.kill()

    async def completed():
        try:
            turn = (await http.get(f"/api/v1/turns/{receipt['turn_id']}")).json()
        except (httpx.TransportError, ValueError):
            return False
        return turn.get("status") == "completed"

    await eventually(completed, within_s=90)
    events = (await http.get(f"/api/v1/sessions/{receipt['session_id']}/events")).json()["data"]
    assert "turn.recovering" not in [event["type"] for event in events]


async def test_a_session_actor_that_is_killed_is_not_noticed_over_http(http):
    session = (await http.post("/api/v1/chat", json=said("Hi"))).json()["session_id"]
    for actor in session_actors().values():

        def own(_) -> int:
            import os

            return os.getpid()

        os.kill(await actor.__ray_call__.remote(own), signal.SIGKILL)

    response = await http.post("/api/v1/chat", json={**said("Still there?"), "session_id": session})

    assert response.status_code == 200, response.text
