"""Server-sent events: the frames byte for byte, resuming, and how a stream ends."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from actors.core.errors import ModelUnavailable
from actors.llm.base import ReasoningText, TextDelta
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

SSE = {"accept": "text/event-stream"}
TERMINAL = {"turn.completed", "turn.failed", "turn.cancelled"}


@pytest.fixture
def tools() -> FakeSandboxes:
    return FakeSandboxes({"print(2)": ExecResult("ok", 0, "2\n")})


@pytest.fixture
def busy_turn() -> ScriptedLLM:
    """Two answers with a tool between them."""
    scripts = [
        [ReasoningText("Hm. "), *calls(("run_python", {"code": "print(2)"}), text="Let me see.")],
        says("It is ", "2."),
    ]
    return ScriptedLLM(scripts, otherwise=says("Hello", " world"))


async def test_a_turn_as_a_stream_in_the_usual_order(make_edge, busy_turn, tools, parse):
    edge = await make_edge(busy_turn, sandboxes=tools)

    response = await edge.http.post("/api/v1/chat", json={"message": "1+1?", "stream": True})

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    events = [event for event in parse(response.content) if "seq" in event.json()]
    assert [event.event for event in events] == [
        "message.accepted",
        "turn.started",
        "message.completed",
        "usage.updated",
        "tool.requested",
        "tool.started",
        "tool.completed",
        "message.completed",
        "usage.updated",
        "turn.completed",
    ]
    assert [event.id for event in events] == [str(number) for number in range(2, 12)]
    journal = await edge.events(response.headers["x-session-id"])
    assert [event.json() for event in events] == journal[1:]
    assert {event.json()["turn_id"] for event in events} == {response.headers["x-turn-id"]}


async def test_frames_are_exact(edge):
    text = "naïve 🙂\u2028\r\n\n: ping\nid: 99\tdata: x"

    response = await edge.http.post("/api/v1/chat", json={"message": text, "stream": True})

    retry, *frames, rest = response.content.split(b"\n\n")
    assert (retry, rest) == (b"retry: 1000", b"")
    for frame in frames:
        lines = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
        body = json.loads(lines[b"data"])
        assert body["type"].encode() == lines[b"event"]
        if b"id" in lines:
            assert list(lines) == [b"id", b"event", b"data"]
            assert body["seq"] == int(lines[b"id"])
            assert body.keys() > {"type", "seq", "session_id", "turn_id", "created_at"}
        else:
            assert list(lines) == [b"event", b"data"]
            assert body.keys() == {"type", "turn_id", "message_id", "offset", "text"}
    accepted = json.loads(frames[0].partition(b"\ndata: ")[2])
    assert accepted["content"] == text


@pytest.mark.parametrize("ask", [{"json": {"message": "Hi", "stream": True}}, {"json": {"message": "Hi"}, "headers": SSE}])
async def test_a_stream_is_asked_for_in_the_body_or_by_accept(edge, ask):
    response = await edge.http.post("/api/v1/chat", **ask)

    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, application/json;q=0.9"])
async def test_without_asking_it_is_json(edge, accept):
    response = await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers={"accept": accept})

    assert response.headers["content-type"] == "application/json"


async def test_deltas_come_before_the_message_is_complete_and_add_up_to_it(make_edge, parse):
    gates = [asyncio.Event() for _ in range(4)]
    pieces = ["One ", "two 🙂 ", "three ", "four"]
    script = [step for pair in zip(map(TextDelta, pieces), gates, strict=True) for step in pair]
    edge = await make_edge(ScriptedLLM([[*script, says("".join(pieces))[-1]]]), delta_interval_s=0)
    shown = ""
    frames = b""

    async with edge.streaming.stream("POST", "/api/v1/chat", json={"message": "Hi", "stream": True}) as response:
        async for chunk in response.aiter_raw():
            frames += chunk
            previews = [event.json() for event in parse(frames) if event.event == "message.delta"]
            shown = "".join(preview["text"] for preview in previews)
            for gate, end in zip(gates, _ends(pieces), strict=True):
                if len(shown) >= end:
                    gate.set()

    assert shown == "".join(pieces)
    offsets = [(preview["offset"], len(preview["text"])) for preview in previews]
    assert [start for start, _ in offsets] == [sum(n for _, n in offsets[:i]) for i in range(len(offsets))]
    assert len({preview["message_id"] for preview in previews}) == 1
    completed = next(event for event in parse(frames) if event.event == "message.completed").json()
    assert (completed["content"], completed["message_id"]) == (shown, previews[0]["message_id"])


async def test_a_reader_that_comes_late_gets_the_text_so_far_in_one_piece(make_edge, parse, read_until):
    gate = asyncio.Event()
    edge = await make_edge(
        ScriptedLLM([[TextDelta("So "), TextDelta("far"), gate, *says("So far", " so good")[1:]]]), delta_interval_s=0
    )
    first = edge.streaming.stream("POST", "/api/v1/chat", json={"message": "Hi", "stream": True})
    async with first as response:
        await read_until(response, lambda got: b"far" in got)
        session = response.headers["x-session-id"]

    async with edge.streaming.stream("GET", f"/api/v1/sessions/{session}/events?after=3", headers=SSE) as response:
        got = await read_until(response, lambda got: b"message.delta" in got)
        gate.set()

    preview = next(event for event in parse(got) if event.event == "message.delta").json()
    assert (preview["offset"], preview["text"]) == (0, "So far")


async def test_output_of_a_tool_is_shown_while_it_runs(make_edge, parse, tools, busy_turn):
    edge = await make_edge(busy_turn, sandboxes=tools, delta_interval_s=0)

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi", "stream": True})

    progress = [event.json() for event in parse(response.content) if event.event == "tool.progress"]
    # A tool that ends at once need not be shown: what it said is in tool.completed.
    assert all(body.keys() == {"type", "turn_id", "tool_call_id", "offset", "text"} for body in progress)
    completed = next(event for event in parse(response.content) if event.event == "tool.completed").json()
    assert completed["content"] == "2"


# Resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["last-event-id", "after"])
async def test_a_reader_resumes_from_any_number_and_gets_every_later_event_once(
    make_edge, busy_turn, tools, parse, read_until, how
):
    edge = await make_edge(busy_turn, sandboxes=tools)
    session = (await edge.say("1+1?"))["session_id"]
    journal = await edge.events(session)
    end = len(journal)

    for number in range(end):
        query, headers = ({"after": number}, SSE) if how == "after" else ({}, {**SSE, "last-event-id": str(number)})
        path = f"/api/v1/sessions/{session}/events"
        async with edge.streaming.stream("GET", path, params=query, headers=headers) as response:
            got = await read_until(response, lambda got: b"id: %d\n" % end in got and got.endswith(b"\n\n"))
        assert [event.json() for event in parse(got)] == journal[number:]


async def test_a_long_history_comes_whole(make_edge, parse, read_until):
    edge = await make_edge()
    session = (await edge.say("1"))["session_id"]
    for number in range(2, 27):
        await edge.say(str(number), session_id=session)
    journal = await edge.events(session)
    assert len(journal) > 100

    async with edge.streaming.stream("GET", f"/api/v1/sessions/{session}/events", headers=SSE) as response:
        got = await read_until(response, lambda got: b"id: %d\n" % len(journal) in got)

    assert [event.json() for event in parse(got)] == journal


async def test_last_event_id_is_what_counts_after_a_reconnect(edge, parse, read_until):
    """A browser repeats the address with the `after` of its first connection."""
    session = (await edge.say("Hi"))["session_id"]

    async with edge.streaming.stream(
        "GET", f"/api/v1/sessions/{session}/events?after=0", headers={**SSE, "last-event-id": "4"}
    ) as response:
        got = await read_until(response, lambda got: b"id: 6" in got)

    assert [event.json()["seq"] for event in parse(got)] == [5, 6]


async def test_a_session_stream_goes_on_over_turns(edge, parse, read_until):
    session = (await edge.say("First"))["session_id"]

    async with edge.streaming.stream("GET", f"/api/v1/sessions/{session}/events?after=6", headers=SSE) as response:
        second = await edge.say("Second", session_id=session)
        third = await edge.say("Third", session_id=session)
        got = await read_until(response, lambda got: got.count(b"event: turn.completed") == 2)

    ended = [event.json()["turn_id"] for event in parse(got) if event.event == "turn.completed"]
    assert ended == [second["turn_id"], third["turn_id"]]


async def test_two_readers_of_one_session_see_the_same(edge, parse, read_until):
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    path = f"/api/v1/sessions/{session}/events"

    async def read() -> list[str]:
        async with edge.streaming.stream("GET", path, headers=SSE) as response:
            got = await read_until(response, lambda got: b"turn.completed" in got)
        return [event.data for event in parse(got) if "seq" in event.json()]

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(5)]
        group.create_task(edge.say("Hi", session_id=session))

    assert all(reader.result() == readers[0].result() for reader in readers)


# How it ends ----------------------------------------------------------------------------------------


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
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[TextDelta("Wait"), gate]]), delta_interval_s=0, sse_heartbeat_s=0.2)
    got = b""

    async with asyncio.timeout(10), edge.streaming.stream(
        "POST", "/api/v1/chat", json={"message": "Hi", "stream": True}
    ) as response:
        async for chunk in response.aiter_raw():
            got += chunk
            if b"Wait" in chunk:
                await edge.http.delete(f"/api/v1/sessions/{response.headers['x-session-id']}")

    last = parse(got)[-1]
    assert (last.event, last.json()["code"]) == ("error", "session_not_found")
    assert b"\nid: " not in got.partition(b"event: error")[2]


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
    edge = await make_edge(ScriptedLLM([[*script, says("0 1 2 3 4 5 ")[-1]]], otherwise=says("Mine")), delta_interval_s=0)
    open_first = edge.streaming.stream("POST", "/api/v1/chat", json={"message": "First", "stream": True})
    async with open_first as first, asyncio.timeout(20):
        chunks: AsyncIterator[bytes] = first.aiter_raw()
        session = first.headers["x-session-id"]
        queued = asyncio.create_task(
            edge.http.post("/api/v1/chat", json={"message": "Second", "session_id": session, "stream": True})
        )
        while not any(e["type"] == "turn.queued" for e in await edge.events(session)):
            await asyncio.sleep(0)
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


def _ends(pieces: list[str]) -> list[int]:
    return [len("".join(pieces[: at + 1])) for at in range(len(pieces))]
