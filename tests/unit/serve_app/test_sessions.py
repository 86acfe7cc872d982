"""Sessions as resources: create, find, list, delete, and their events by pages."""

import asyncio
import re
from dataclasses import replace

import pytest

from actors.core.errors import SessionLost, StoreUnavailable
from actors.ledger.book import attempts_of
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_new_session_is_described_in_full(edge):
    response = await edge.http.post("/api/v1/sessions", json={"system": "Be brief.", "metadata": {"team": ["a"]}})

    assert response.status_code == 201
    body = response.json()
    assert response.headers["location"] == f"/api/v1/sessions/{body['id']}"
    assert RFC3339.fullmatch(body.pop("created_at"))
    assert RFC3339.fullmatch(body.pop("updated_at"))
    assert body.pop("id").startswith("sess_")
    assert body == {
        "title": None,
        "model": "scripted",
        "system": "Be brief.",
        "metadata": {"team": ["a"]},
        "status": "idle",
        "approvals": [],
        "forked_from": None,
        "last_seq": 1,
        "oldest_seq": 1,
        "usage": {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
        },
        "cost": {"micros": 0, "usd": "0.000000", "known": True},
    }


async def test_creating_the_same_id_again_finds_it_and_changes_nothing(edge):
    first = await edge.http.post("/api/v1/sessions", json={"id": "my-session_1", "system": "A"})
    again = await edge.http.post("/api/v1/sessions", json={"id": "my-session_1", "system": "B"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert len(await edge.events("my-session_1")) == 1


async def test_of_many_who_create_the_same_id_at_once_one_is_told_201(edge):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(edge.http.post("/api/v1/sessions", json={"id": "race"})) for _ in range(10)]

    assert sorted(task.result().status_code for task in tasks) == [200] * 9 + [201]


async def test_a_session_that_was_created_first_can_be_talked_to(edge):
    await edge.http.post("/api/v1/sessions", json={"id": "mine"})

    answer = await edge.say("Hi there, how are you?", session_id="mine")

    session = (await edge.http.get("/api/v1/sessions/mine")).json()
    assert answer["session_id"] == "mine"
    assert session["title"] == "Hi there, how are you?"
    assert session["last_seq"] == 6
    assert session["usage"]["total_tokens"] == 12
    assert session["cost"] == {"micros": 10, "usd": "0.000010", "known": True}


async def test_a_long_first_message_is_cut_to_a_title(edge):
    answer = await edge.say("word " * 1000)

    title = (await edge.http.get(f"/api/v1/sessions/{answer['session_id']}")).json()["title"]
    assert len(title) <= 80
    assert title.endswith("word…")


async def test_a_session_is_running_while_its_turn_runs(make_edge):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[TextDelta("Wait"), gate, *says("Wait", "ed.")[1:]]]))
    later = await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers={"prefer": "respond-async"})
    path = f"/api/v1/sessions/{later.json()['session_id']}"

    assert (await edge.http.get(path)).json()["status"] == "running"
    gate.set()
    async with asyncio.timeout(10):
        while (await edge.http.get(path)).json()["status"] != "idle":
            pass


async def test_an_unknown_model_is_refused(edge, problem_of):
    problem_of(await edge.http.post("/api/v1/sessions", json={"model": "gpt-17"}), 422, "unknown_model")


# Lists ----------------------------------------------------------------------------------------------


async def test_an_empty_list(edge):
    assert (await edge.http.get("/api/v1/sessions")).json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


async def test_pages_come_newest_first_and_hold_everything_once(edge):
    made = [(await edge.http.post("/api/v1/sessions", json={})).json()["id"] for _ in range(7)]
    seen: list[str] = []
    after = None

    while len(seen) < len(made):
        query = {"limit": 3, **({"after": after} if after else {})}
        page = (await edge.http.get("/api/v1/sessions", params=query)).json()
        ids = [session["id"] for session in page["data"]]
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
        seen += ids
        after = page["last_id"]
        assert page["has_more"] == (len(seen) < len(made))

    assert seen == made[::-1]


async def test_pages_hold_twenty_unless_asked(edge):
    for _ in range(21):
        await edge.http.post("/api/v1/sessions", json={})

    page = (await edge.http.get("/api/v1/sessions")).json()

    assert (len(page["data"]), page["has_more"]) == (20, True)


async def test_a_page_goes_on_after_a_session_that_was_deleted_since(edge):
    made = [(await edge.http.post("/api/v1/sessions", json={})).json()["id"] for _ in range(3)]
    await edge.http.delete(f"/api/v1/sessions/{made[1]}")

    page = (await edge.http.get("/api/v1/sessions", params={"after": made[1]})).json()

    assert [session["id"] for session in page["data"]] == [made[0]]


async def test_a_cursor_that_is_no_session_is_refused(edge, problem_of):
    problem_of(await edge.http.get("/api/v1/sessions?after=sess_none"), 404, "session_not_found")


# Events ---------------------------------------------------------------------------------------------


async def test_events_by_pages(edge):
    session = (await edge.say("Hi"))["session_id"]

    first = (await edge.http.get(f"/api/v1/sessions/{session}/events?limit=4")).json()
    second = (await edge.http.get(f"/api/v1/sessions/{session}/events?limit=4&after={first['last_seq']}")).json()
    beyond = (await edge.http.get(f"/api/v1/sessions/{session}/events?after=6")).json()

    assert [event["seq"] for event in first["data"] + second["data"]] == [1, 2, 3, 4, 5, 6]
    assert (first["last_seq"], first["has_more"], second["last_seq"], second["has_more"]) == (4, True, 6, False)
    assert beyond == {"object": "list", "data": [], "last_seq": 6, "has_more": False}


async def test_events_are_flat_objects(edge):
    session = (await edge.say("Hi"))["session_id"]

    accepted = (await edge.events(session))[1]

    assert accepted.pop("message_id").startswith("msg_")
    assert accepted.pop("turn_id").startswith("turn_")
    assert RFC3339.fullmatch(accepted.pop("created_at"))
    assert accepted == {
        "type": "message.accepted",
        "seq": 2,
        "session_id": session,
        "content": "Hi",
        "model": None,
        "on_busy": "enqueue",
        "fingerprint": None,
        "key_id": edge.key.split("_")[1],
        "org_id": None,
    }


# Deleting -------------------------------------------------------------------------------------------


async def test_a_deleted_session_is_gone_everywhere(make_edge, problem_of):
    sandboxes = FakeSandboxes()
    llm = ScriptedLLM([calls(("write_file", {"path": "a.txt", "content": "secret"})), says("Written.")])
    edge = await make_edge(llm, sandboxes=sandboxes)
    answer = await edge.say("Write.")
    session, turn = answer["session_id"], answer["turn_id"]
    assert len(await sandboxes.list(session)) == 1

    response = await edge.http.delete(f"/api/v1/sessions/{session}")

    assert (response.status_code, response.content) == (204, b"")
    problem_of(await edge.http.get(f"/api/v1/sessions/{session}"), 404, "session_not_found")
    problem_of(await edge.http.get(f"/api/v1/sessions/{session}/events"), 404, "session_not_found")
    problem_of(await edge.http.get(f"/api/v1/turns/{turn}"), 404, "turn_not_found")
    problem_of(await edge.http.delete(f"/api/v1/sessions/{session}"), 404, "session_not_found")
    problem_of(
        await edge.http.post("/api/v1/chat", json={"message": "Hi", "session_id": session}), 404, "session_not_found"
    )
    assert (await edge.http.get("/api/v1/sessions")).json()["data"] == []
    assert await sandboxes.list(session) == ()
    assert edge.host.status().sessions == ()


async def test_deleting_stops_the_turn_that_runs(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Wait"), gate]])
    edge = await make_edge(llm)
    later = await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers={"prefer": "respond-async"})
    await until(lambda: llm.open)

    await edge.http.delete(f"/api/v1/sessions/{later.json()['session_id']}")

    assert (llm.open, llm.broken_off) == (0, 1)
    assert edge.host.status().running == 0


async def test_deleting_writes_down_how_the_model_call_that_ran_ended(make_edge, until):
    llm = ScriptedLLM([[TextDelta("Wait"), asyncio.Event()]])
    edge = await make_edge(llm)
    later = await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers={"prefer": "respond-async"})
    session = later.json()["session_id"]
    await until(lambda: llm.open)

    assert (await edge.http.delete(f"/api/v1/sessions/{session}")).status_code == 204

    (attempt,) = await edge.database.read(lambda connection: attempts_of(connection, session))
    # Not as lost: its own host closed it, before it was fenced.
    assert (attempt.state, attempt.outcome) == ("ended", "cancelled")


class _Unreachable:
    """Sessions whose host does not answer; which were to be forgotten."""

    def __init__(self):
        self.forgotten = []

    async def cancel(self, *_):
        raise SessionLost

    async def forget(self, session_id):
        self.forgotten.append(session_id)
        raise StoreUnavailable


async def test_a_turn_that_cannot_be_stopped_is_deleted_and_its_model_call_is_lost(make_edge, until):
    llm = ScriptedLLM([[TextDelta("Wait"), asyncio.Event()]])
    edge = await make_edge(llm)
    later = await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers={"prefer": "respond-async"})
    session = later.json()["session_id"]
    await until(lambda: llm.open)
    edge.app.state.services = replace(edge.services, sessions=_Unreachable())

    await edge.http.delete(f"/api/v1/sessions/{session}")

    (attempt,) = await edge.database.read(lambda connection: attempts_of(connection, session))
    assert (attempt.state, attempt.outcome, attempt.cost_micros) == ("ended", "lost", None)


async def test_deleting_again_releases_what_the_first_time_could_not(make_edge, problem_of):
    sandboxes = FakeSandboxes()
    llm = ScriptedLLM([calls(("write_file", {"path": "a.txt", "content": "secret"})), says("Written.")])
    edge = await make_edge(llm, sandboxes=sandboxes)
    session = (await edge.say("Write."))["session_id"]
    edge.app.state.services = replace(edge.services, sessions=_Unreachable())
    problem_of(await edge.http.delete(f"/api/v1/sessions/{session}"), 503, "store_unavailable")
    assert len(await sandboxes.list(session)) == 1
    edge.mend()

    problem_of(await edge.http.delete(f"/api/v1/sessions/{session}"), 404, "session_not_found")

    assert await sandboxes.list(session) == ()


async def test_a_stranger_who_deletes_a_session_makes_nobody_forget_it(edge, stranger, problem_of):
    session = (await edge.say("Hi"))["session_id"]
    unreachable = _Unreachable()
    edge.app.state.services = replace(edge.services, sessions=unreachable)

    problem_of(await stranger.delete(f"/api/v1/sessions/{session}"), 404, "session_not_found")

    assert unreachable.forgotten == []


async def test_a_chat_that_waits_when_its_session_is_deleted_is_told_so(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Wait"), gate]])
    edge = await make_edge(llm)
    await edge.http.post("/api/v1/sessions", json={"id": "doomed"})
    waiting = asyncio.create_task(edge.http.post("/api/v1/chat", json={"message": "Hi", "session_id": "doomed"}))
    await until(lambda: llm.open)

    await edge.http.delete("/api/v1/sessions/doomed")

    async with asyncio.timeout(10):
        response = await waiting
    # Its turn was stopped before the session went, and ended as stopped turns do.
    assert (response.status_code, response.json()["stop_reason"]) == (200, "cancelled"), response.text


@pytest.mark.parametrize("again", ["create", "create twice"])
async def test_the_id_of_a_deleted_session_does_not_bring_it_back(edge, problem_of, again):
    await edge.say("Hi", session_id=(await edge.http.post("/api/v1/sessions", json={"id": "mine"})).json()["id"])
    await edge.http.delete("/api/v1/sessions/mine")

    for _ in range(2 if again == "create twice" else 1):
        problem_of(await edge.http.post("/api/v1/sessions", json={"id": "mine"}), 409, "session_exists")

    problem_of(await edge.http.get("/api/v1/sessions/mine"), 404, "session_not_found")
