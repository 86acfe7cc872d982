"""Server-sent events: how a stream ends, what becomes of those who leave, and the heartbeat."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.core.errors import ModelUnavailable
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, says

SSE = {"accept": "text/event-stream"}
TERMINAL = {"turn.completed", "turn.failed", "turn.cancelled"}


@pytest.mark.parametrize(
    ("script", "code"),
    [([ModelUnavailable("down")], "model_unavailable"), ([TextDelta("Hal"), RuntimeError("a defect")], "internal")],
    ids=["down", "defect"],
)
async def test_the_stream_of_a_failed_turn_ends_with_its_one_terminal_event(make_edge, parse, script, code):
    edge = await make_edge(ScriptedLLM([script]))

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi", "stream": True})

    assert response.status_code == 200
    events = parse(response.content)
    assert [event.event for event in events if event.event in TERMINAL] == ["turn.failed"]
    assert events[-1].json()["error"]["code"] == code
    assert not [event for event in events if event.event == "error"]


async def test_the_stream_of_a_cancelled_turn_ends_with_its_one_terminal_event(make_edge, parse):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[TextDelta("Once upon"), gate]]), delta_interval_s=0)
    got = b""

    async with edge.streaming.stream("POST", "/api/v1/chat", json={"message": "Hi", "stream": True}) as response:
        async for chunk in response.aiter_raw():
            got += chunk
            if b"Once" in chunk and b"turn.cancelled" not in got:
                await edge.http.post(f"/api/v1/turns/{response.headers['x-turn-id']}/cancel")

    events = parse(got)
    assert [event.event for event in events if event.event in TERMINAL] == ["turn.cancelled"]
    assert events[-1].json()["stopped"] == ["model"]


async def test_errors_before_the_stream_are_problems(edge, problem_of):
    body = {"message": "Hi", "stream": True}

    problem_of(await edge.http.post("/api/v1/chat", json={**body, "session_id": "none"}), 404, "session_not_found")
    problem_of(await edge.http.post("/api/v1/chat", json={**body, "message": " "}), 422, "invalid_input")
    problem_of(
        await edge.http.get("/api/v1/sessions/none/events", headers=SSE),
        404,
        "session_not_found",
    )


async def test_a_reader_that_leaves_does_not_stop_the_turn(make_edge, read_until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("I will "), gate, *says("I will ", "finish.")[1:]]])
    edge = await make_edge(llm, delta_interval_s=0)

    async with edge.streaming.stream("POST", "/api/v1/chat", json={"message": "Hi", "stream": True}) as response:
        await read_until(response, lambda got: b"I will" in got)
        turn, session = response.headers["x-turn-id"], response.headers["x-session-id"]
    assert (llm.open, llm.broken_off) == (1, 0)
    gate.set()

    path = f"/api/v1/sessions/{session}/events"
    async with edge.streaming.stream("GET", path, headers=SSE) as response:
        await read_until(response, lambda got: b"turn.completed" in got)
    assert (await edge.http.get(f"/api/v1/turns/{turn}")).json()["status"] == "completed"


async def test_readers_that_leave_hold_nothing(make_edge, read_until):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[TextDelta("Wait"), gate]]), delta_interval_s=0)
    async with edge.streaming.stream("POST", "/api/v1/chat", json={"message": "Hi", "stream": True}) as response:
        await read_until(response, lambda got: b"Wait" in got)
        session = response.headers["x-session-id"]
    before = len(asyncio.all_tasks())

    for _ in range(50):
        async with edge.streaming.stream("GET", f"/api/v1/sessions/{session}/events", headers=SSE) as response:
            await read_until(response, lambda got: b"Wait" in got)

    assert len(asyncio.all_tasks()) <= before


async def test_a_deleted_session_ends_its_streams(make_edge, parse):
    """The stream of the turn by the turn's own end, which the deletion brings about; the session's by an error."""
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[TextDelta("Wait"), gate]]), delta_interval_s=0, sse_heartbeat_s=0.2)
    begun, whole = asyncio.Event(), asyncio.Event()

    async def read(method: str, path: str, body: dict | None, seen: asyncio.Event) -> bytes:
        got = b""
        async with edge.streaming.stream(method, path, json=body, headers=SSE) as response:
            async for chunk in response.aiter_raw():
                got += chunk
                if b"Wait" in got:
                    seen.set()
        return got

    async with asyncio.timeout(10):
        of_turn = asyncio.create_task(read("POST", "/api/v1/chat", {"message": "Hi", "stream": True}, begun))
        await begun.wait()
        (opened,) = (await edge.http.get("/api/v1/sessions")).json()["data"]
        path = f"/api/v1/sessions/{opened['id']}"
        of_session = asyncio.create_task(read("GET", f"{path}/events", None, whole))
        await whole.wait()
        assert (await edge.http.delete(path)).status_code == 204
        turn, session = await of_turn, await of_session

    assert parse(turn)[-1].event == "turn.cancelled"
    last = parse(session)[-1]
    assert (last.event, last.json()["code"]) == ("error", "session_not_found")
    assert b"\nid: " not in session.partition(b"event: error")[2]


async def test_a_sleeping_session_that_is_deleted_ends_its_streams(make_edge, parse):
    edge = await make_edge(sse_heartbeat_s=0.2)
    session = (await edge.say("Hi"))["session_id"]
    got = b""

    path = f"/api/v1/sessions/{session}/events"
    async with asyncio.timeout(10), edge.streaming.stream("GET", path, headers=SSE) as response:
        async for chunk in response.aiter_raw():
            if not got:
                await edge.http.delete(f"/api/v1/sessions/{session}")
            got += chunk

    assert parse(got)[-1].json()["code"] == "session_not_found"


# Heartbeat ------------------------------------------------------------------------------------------


async def test_a_silent_stream_says_that_it_lives(make_edge, read_until):
    edge = await make_edge(sse_heartbeat_s=0.05)
    session = (await edge.say("Hi"))["session_id"]

    async with edge.streaming.stream("GET", f"/api/v1/sessions/{session}/events?after=6", headers=SSE) as response:
        got = await read_until(response, lambda got: got.count(b": ping\n\n") == 3)

    assert got == b"retry: 1000\n\n" + b": ping\n\n" * 3


async def test_a_reader_of_a_queued_turn_is_not_told_of_the_turn_before_it(make_edge, parse, read_until):
    gates = [asyncio.Event() for _ in range(6)]
    script = [step for number, gate in enumerate(gates) for step in (TextDelta(f"{number} "), gate)]
    edge = await make_edge(
        ScriptedLLM([[*script, says("0 1 2 3 4 5 ")[-1]]], otherwise=says("Mine")), delta_interval_s=0
    )
    open_first = edge.streaming.stream("POST", "/api/v1/chat", json={"message": "First", "stream": True})
    async with open_first as first, asyncio.timeout(20):
        chunks: AsyncIterator[bytes] = first.aiter_raw()
        session = first.headers["x-session-id"]
        queued = asyncio.create_task(
            edge.http.post("/api/v1/chat", json={"message": "Second", "session_id": session, "stream": True})
        )
        while not any(e["type"] == "turn.queued" for e in await edge.events(session)):
            pass
        got = b""
        for number, gate in enumerate(gates):
            while f'"{number} "'.encode() not in got:
                got += await anext(chunks)
            gate.set()
        answer = await queued

    events = parse(answer.content)
    assert len({event.json()["turn_id"] for event in events}) == 1
    assert events[0].event == "message.accepted"
    assert events[-1].event == "turn.completed"
    # The heartbeat is ten seconds: a ping for each preview of another turn is a frame for nothing.
    assert answer.content.count(b": ping") == 0


async def test_a_reader_of_a_queued_turn_hears_that_its_stream_lives(make_edge):
    """However much the turn before it says: proxies cut a connection on which nothing comes."""

    class Chatty(ScriptedLLM):
        async def stream(self, request):
            self.requests.append(request)
            while not heard.is_set():
                yield TextDelta("on and on ")
                await asyncio.sleep(0.01)
            yield says("Done.")[-1]

    heard = asyncio.Event()
    edge = await make_edge(Chatty(), delta_interval_s=0, sse_heartbeat_s=0.3)
    later = {"prefer": "respond-async"}
    session = (await edge.http.post("/api/v1/chat", json={"message": "1"}, headers=later)).json()["session_id"]
    body = {"message": "2", "session_id": session, "stream": True}

    try:
        async with asyncio.timeout(5), edge.streaming.stream("POST", "/api/v1/chat", json=body) as response:
            async for piece in response.aiter_raw():
                if b": ping" in piece:
                    break
    finally:
        heard.set()


async def test_a_message_that_was_accepted_by_an_earlier_try_streams_from_its_acceptance(make_edge, parse):
    """A host that dies after the commit: the replica sends the same command again, and goes on with the receipt."""

    class Twice:
        """Sessions whose first answer to `submit` is lost, as when the host dies just after it committed."""

        def __init__(self, host) -> None:
            self._host = host

        def __getattr__(self, name):
            return getattr(self._host, name)

        async def submit(self, command):
            await self._host.chat(command, wait_s=5)
            return await self._host.submit(command)

    edge = await make_edge(sessions=Twice)

    async with asyncio.timeout(10):
        response = await edge.http.post("/api/v1/chat", json={"message": "Hi", "stream": True})

    assert [event.event for event in parse(response.content) if "seq" in event.json()] == [
        "message.accepted",
        "turn.started",
        "message.completed",
        "usage.updated",
        "turn.completed",
    ]
