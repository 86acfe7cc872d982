"""Server-sent events: the frames byte for byte, and resuming."""

import asyncio
import json

import pytest

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


@pytest.mark.parametrize(
    "ask", [{"json": {"message": "Hi", "stream": True}}, {"json": {"message": "Hi"}, "headers": SSE}]
)
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


def _ends(pieces: list[str]) -> list[int]:
    return [len("".join(pieces[: at + 1])) for at in range(len(pieces))]
