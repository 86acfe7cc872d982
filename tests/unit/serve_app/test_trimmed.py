"""Where old events were deleted: readers are told so, and where they can go on."""

import asyncio

import pytest

from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, says

SSE = {"accept": "text/event-stream"}


@pytest.fixture
async def trimmed(edge):
    """A session whose events up to number 11 are gone, and one turn after them."""
    edge.old = await edge.say("First")
    edge.session = edge.old["session_id"]
    await edge.say("Second", session_id=edge.session)
    await edge.trim()
    edge.new = await edge.say("Third", session_id=edge.session)
    edge.path = f"/api/v1/sessions/{edge.session}/events"
    return edge


async def test_without_a_cursor_one_begins_at_what_is_there(trimmed, parse, read_until):
    page = (await trimmed.http.get(trimmed.path)).json()
    async with trimmed.streaming.stream("GET", trimmed.path, headers=SSE) as response:
        got = await read_until(response, lambda got: b"id: 16\n" in got)

    assert [event["seq"] for event in page["data"]] == [11, 12, 13, 14, 15, 16]
    assert page["data"][0]["type"] == "history.trimmed"
    assert [event.json() for event in parse(got)] == page["data"]
    assert (await trimmed.http.get(f"/api/v1/sessions/{trimmed.session}")).json()["oldest_seq"] == 11


@pytest.mark.parametrize("after", [11, 12, 15])
async def test_what_is_left_can_be_gone_on_with(trimmed, parse, read_until, after):
    page = (await trimmed.http.get(trimmed.path, params={"after": after})).json()
    headers = {**SSE, "last-event-id": str(after)}
    async with trimmed.streaming.stream("GET", trimmed.path, headers=headers) as response:
        got = await read_until(response, lambda got: b"id: 16\n" in got)

    assert [event["seq"] for event in page["data"]] == list(range(after + 1, 17))
    assert [event.json() for event in parse(got)] == page["data"]


@pytest.mark.parametrize("after", [1, 7, 10])
@pytest.mark.parametrize("how", ["page", "stream", "stream by id"])
async def test_what_is_gone_is_said_before_anything_else(trimmed, problem_of, after, how):
    ask = {
        "page": {"params": {"after": after}},
        "stream": {"params": {"after": after}, "headers": SSE},
        "stream by id": {"headers": {**SSE, "last-event-id": str(after)}},
    }[how]

    problem = problem_of(await trimmed.http.get(trimmed.path, **ask), 410, "cursor_expired")

    assert problem["oldest_seq"] == 11
    assert problem["session_id"] == trimmed.session


async def test_a_reader_who_falls_behind_a_trim_is_told_in_the_stream(make_edge, parse):
    """It had event 6 when a turn came of which it heard nothing, and went again."""
    edge = await make_edge(sse_heartbeat_s=1)
    session = (await edge.say("First"))["session_id"]
    got = b""

    async with asyncio.timeout(10):
        path = f"/api/v1/sessions/{session}/events?after=6"
        async with edge.streaming.stream("GET", path, headers=SSE) as response:
            async for chunk in response.aiter_raw():
                if not got:
                    # It waits for a session that has left memory, so that nothing wakes it while this happens.
                    await edge.passivate()
                    await edge.say("Second", session_id=session)
                    await edge.trim()
                got += chunk

    last = parse(got)[-1]
    assert (last.event, last.json()["code"]) == ("error", "cursor_expired")
    assert last.json()["oldest_seq"] > 6
    assert not last.id


async def test_a_turn_whose_events_are_gone_is_gone(trimmed, problem_of):
    turn = trimmed.old["turn_id"]

    problem_of(await trimmed.http.get(f"/api/v1/turns/{turn}"), 404, "turn_not_found")
    problem_of(await trimmed.http.get(f"/api/v1/turns/{turn}/events"), 404, "turn_not_found")
    problem_of(await trimmed.http.post(f"/api/v1/turns/{turn}/cancel"), 404, "turn_not_found")


async def test_a_turn_after_them_is_read_and_replayed_as_ever(trimmed):
    events = (await trimmed.http.get(f"/api/v1/turns/{trimmed.new['turn_id']}/events")).json()

    assert [event["seq"] for event in events["data"]] == [12, 13, 14, 15, 16]


async def test_a_keyed_answer_after_a_trim_is_replayed(edge):
    session = (await edge.say("First"))["session_id"]
    await edge.trim()
    body, headers = {"message": "Second", "session_id": session}, {"idempotency-key": "k"}

    told = [(await edge.http.post("/api/v1/chat", json=body, headers=headers)).json() for _ in range(2)]

    assert told[0] == told[1]


async def test_a_session_whose_turn_runs_is_not_trimmed(make_edge, until):
    llm = ScriptedLLM([says("One.")], otherwise=[TextDelta("Two"), asyncio.Event()])
    edge = await make_edge(llm)
    session = (await edge.say("First"))["session_id"]
    await edge.http.post(f"/api/v1/sessions/{session}/messages", json={"message": "Second"})
    await until(lambda: llm.open)

    assert await edge.journal.trim(edge.services.clock.now(), limit=10) == 0
    assert (await edge.http.get(f"/api/v1/sessions/{session}")).json()["oldest_seq"] == 1


async def test_a_fork_of_what_is_gone_is_refused(trimmed, problem_of):
    path = f"/api/v1/sessions/{trimmed.session}/fork"

    problem = problem_of(await trimmed.http.post(path, json={"from_event": 7}), 410, "cursor_expired")

    assert problem["oldest_seq"] == 11
    assert (await trimmed.http.post(path, json={"from_event": 11})).status_code == 201
    assert (await trimmed.http.post(path)).status_code == 201
