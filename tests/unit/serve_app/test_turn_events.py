"""The events of one turn: as a page, and as a stream that ends with it."""

import asyncio

import pytest

from actors.core.errors import StoreUnavailable
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says

SSE = {"accept": "text/event-stream"}
LATER = {"prefer": "respond-async"}
TYPES = ["message.accepted", "turn.started", "message.completed", "usage.updated", "turn.completed"]


@pytest.fixture
async def two(edge):
    """A session with two turns, of which the second is told of."""
    first = await edge.say("First")
    edge.answer = await edge.say("Second", session_id=first["session_id"])
    edge.path = f"/api/v1/turns/{edge.answer['turn_id']}/events"
    return edge


async def test_the_events_of_a_turn_and_of_no_other(two):
    page = (await two.http.get(two.path)).json()

    assert page == {
        "object": "list",
        "data": (await two.events(two.answer["session_id"]))[6:],
        "last_seq": 11,
        "has_more": False,
    }
    assert [event["type"] for event in page["data"]] == TYPES


async def test_a_turn_by_pages(two):
    pages = []
    after = 0
    while not pages or pages[-1]["has_more"]:
        pages.append((await two.http.get(two.path, params={"after": after, "limit": 2})).json())
        after = pages[-1]["last_seq"]

    assert [[event["seq"] for event in page["data"]] for page in pages] == [[7, 8], [9, 10], [11]]
    assert (await two.http.get(two.path, params={"after": 11})).json()["data"] == []


async def test_events_of_turns_that_wait_are_not_of_the_one_that_runs(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("One"), gate, *says("One", ".")[1:]]], otherwise=says("Two."))
    edge = await make_edge(llm)
    first = (await edge.http.post("/api/v1/chat", json={"message": "1"}, headers=LATER)).json()
    await until(lambda: llm.open)
    messages = f"/api/v1/sessions/{first['session_id']}/messages"
    second = (await edge.http.post(messages, json={"message": "2"})).json()
    gate.set()
    await edge.ended(second["turn_id"])

    told = {
        turn["turn_id"]: (await edge.http.get(f"/api/v1/turns/{turn['turn_id']}/events")).json()["data"]
        for turn in (first, second)
    }

    assert [event["type"] for event in told[first["turn_id"]]] == TYPES
    assert [event["type"] for event in told[second["turn_id"]]] == [TYPES[0], "turn.queued", *TYPES[1:]]
    whole = sorted((event for events in told.values() for event in events), key=lambda event: event["seq"])
    assert whole == (await edge.events(first["session_id"]))[1:]


async def test_a_long_turn_comes_whole(make_edge):
    steps = [calls(("list_files", {})) for _ in range(23)]
    edge = await make_edge(ScriptedLLM([*steps, *[says("Done.")]]))
    answer = await edge.say("Look around.")

    page = (await edge.http.get(f"/api/v1/turns/{answer['turn_id']}/events?limit=500")).json()

    assert page["data"] == (await edge.events(answer["session_id"]))[1:]
    assert len(page["data"]) > 100


# Streams -------------------------------------------------------------------------------------------


async def test_a_stream_of_a_turn_that_has_ended_ends_too(two, parse):
    response = await two.http.get(two.path, headers=SSE)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content.startswith(b"retry: 1000\n\n")
    assert [event.json() for event in parse(response.content)] == (await two.http.get(two.path)).json()["data"]


async def test_a_stream_of_a_turn_that_runs_is_followed_to_its_end(make_edge, parse, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Sl"), gate, *says("Sl", "ow")[1:]]], otherwise=says("More."))
    edge = await make_edge(llm, delta_interval_s=0)
    turn = (await edge.http.post("/api/v1/chat", json={"message": "1"}, headers=LATER)).json()
    await until(lambda: llm.open)
    got = b""

    async with (
        asyncio.timeout(10),
        edge.streaming.stream("GET", f"/api/v1/turns/{turn['turn_id']}/events", headers=SSE) as response,
    ):
        async for chunk in response.aiter_raw():
            got += chunk
            if b"message.delta" in got:
                gate.set()

    events = parse(got)
    assert [event.event for event in events if "seq" in event.json()] == TYPES
    assert {event.event for event in events} > {"message.delta"}


@pytest.mark.parametrize("how", ["after", "last-event-id"])
async def test_a_stream_is_resumed_after_any_number(two, parse, how):
    for number in range(13):
        query, headers = ({"after": number}, SSE) if how == "after" else ({}, {**SSE, "last-event-id": str(number)})
        response = await two.http.get(two.path, params=query, headers=headers)
        left = [seq for seq in range(7, 12) if seq > number]
        # A browser comes back after every end of a stream, unless it is told 204.
        assert response.status_code == (200 if left else 204)
        assert [event.json()["seq"] for event in parse(response.content)] == left


async def test_a_store_that_goes_away_in_the_middle_is_told_in_the_stream(make_edge, parse):
    steps = [calls(("list_files", {})) for _ in range(23)]
    edge = await make_edge(ScriptedLLM([*steps, says("Done.")] * 2))
    session = (await edge.say("Look around."))["session_id"]
    answer = await edge.say("Again.", session_id=session)
    honest, reads = edge.services.book.events, []

    async def twice(*args, **kwargs):
        reads.append(args)
        if len(reads) == 2:
            raise StoreUnavailable("the database is away")
        return await honest(*args, **{**kwargs, "limit": 50})

    edge.services.book.events = twice
    response = await edge.http.get(f"/api/v1/turns/{answer['turn_id']}/events", headers=SSE)

    *events, last = parse(response.content)
    assert len(events) == 50
    assert (last.event, last.json()["code"]) == ("error", "store_unavailable")
    assert last.id in {"", events[-1].id}


async def test_a_turn_that_there_is_not(edge, stranger, problem_of):
    turn = (await edge.say("Secret"))["turn_id"]

    for client, identifier in ((edge.http, "turn_none"), (stranger, turn)):
        for headers in ({}, SSE):
            response = await client.get(f"/api/v1/turns/{identifier}/events", headers=headers)
            problem_of(response, 404, "turn_not_found")
