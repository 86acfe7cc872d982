"""Pause, resume and interrupt."""

import asyncio

import pytest

from actors.core.errors import SessionLost
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

LATER = {"prefer": "respond-async"}


async def test_a_paused_session_ends_its_step_and_begins_no_other(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Let me"), gate, *calls(("list_files", {}))]], otherwise=says("Done."))
    edge = await make_edge(llm)
    turn = (await edge.http.post("/api/v1/chat", json={"message": "Go"}, headers=LATER)).json()
    path = f"/api/v1/sessions/{turn['session_id']}"
    await until(lambda: llm.open)

    paused = await edge.http.post(f"{path}/pause")
    gate.set()
    await edge.until_turn(turn["turn_id"], "waiting")

    assert (paused.status_code, paused.json()["status"], paused.json()["id"]) == (200, "paused", turn["session_id"])
    assert (await edge.http.get(path)).json()["status"] == "paused"
    assert len(llm.requests) == 1
    types = [event["type"] for event in await edge.events(turn["session_id"])]
    assert (types[-2:], types.count("tool.started")) == (["tool.requested", "turn.waiting"], 0)

    resumed = await edge.http.post(f"{path}/resume")
    ended = await edge.ended(turn["turn_id"])

    assert (resumed.status_code, resumed.json()["status"]) == (200, "running")
    assert (ended["status"], ended["stop_reason"]) == ("completed", "end_turn")
    assert len(llm.requests) == 2


async def test_pausing_and_resuming_again_change_nothing(edge):
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    path = f"/api/v1/sessions/{session}"

    told = [
        (await edge.http.post(f"{path}/{order}", headers={"idempotency-key": "k"})).json()["status"]
        for order in ("pause", "pause", "resume", "resume", "pause", "resume")
    ]

    assert told == ["paused", "paused", "idle", "idle", "paused", "idle"]
    assert [event["type"] for event in await edge.events(session)] == [
        "session.created",
        *["session.paused", "session.resumed"] * 2,
    ]


async def test_a_paused_session_takes_messages_and_answers_them_later(make_edge):
    llm = ScriptedLLM(otherwise=says("At last."))
    edge = await make_edge(llm)
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    path = f"/api/v1/sessions/{session}"
    await edge.http.post(f"{path}/pause")

    async with asyncio.timeout(5):  # and not for `chat_wait_s`: nothing will happen until somebody resumes it
        response = await edge.http.post("/api/v1/chat", json={"message": "Hi", "session_id": session})

    body = response.json()
    assert (response.status_code, body["status"], body["approval_ids"]) == (202, "queued", [])
    assert llm.requests == []
    await edge.http.post(f"{path}/resume")
    assert (await edge.ended(body["turn_id"]))["status"] == "completed"


async def test_a_chat_that_waits_when_its_session_is_paused_is_told_so(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Let me"), gate, *calls(("list_files", {}))]], otherwise=says("Done."))
    edge = await make_edge(llm)
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    asked = [asyncio.create_task(edge.http.post("/api/v1/chat", json={"message": "1", "session_id": session}))]
    await until(lambda: llm.open)
    asked.append(asyncio.create_task(edge.http.post("/api/v1/chat", json={"message": "2", "session_id": session})))
    await edge.http.post(f"/api/v1/sessions/{session}/pause")
    while len(await edge.events(session)) < 6:
        pass
    gate.set()

    async with asyncio.timeout(5):
        told = [(await task) for task in asked]

    assert [(answer.status_code, answer.json()["status"]) for answer in told] == [(202, "waiting"), (202, "queued")]


async def test_interrupt_stops_what_runs_and_what_waits_goes_on(make_edge, until):
    llm = ScriptedLLM([[TextDelta("Once upon"), asyncio.Event()]], otherwise=says("Sure."))
    edge = await make_edge(llm)
    turn = (await edge.http.post("/api/v1/chat", json={"message": "Tell"}, headers=LATER)).json()
    path = f"/api/v1/sessions/{turn['session_id']}"
    await until(lambda: llm.open)
    waits = (await edge.http.post(f"{path}/messages", json={"message": "Next"})).json()

    response = await edge.http.post(f"{path}/interrupt")

    assert (response.status_code, response.json()["id"]) == (200, turn["session_id"])
    assert llm.broken_off == 1
    stopped = (await edge.http.get(f"/api/v1/turns/{turn['turn_id']}")).json()
    assert (stopped["status"], stopped["stopped"]) == ("cancelled", ["model"])
    assert (await edge.ended(waits["turn_id"]))["status"] == "completed"


async def test_interrupt_stops_a_tool(make_edge):
    sandboxes = FakeSandboxes(hanging={"while True: pass"})
    edge = await make_edge(ScriptedLLM([calls(("run_python", {"code": "while True: pass"}))]), sandboxes=sandboxes)
    turn = (await edge.http.post("/api/v1/chat", json={"message": "Spin"}, headers=LATER)).json()
    async with asyncio.timeout(10):
        await sandboxes.started.wait()

    await edge.http.post(f"/api/v1/sessions/{turn['session_id']}/interrupt")

    assert len(sandboxes.cancelled) == 1
    assert (await edge.http.get(f"/api/v1/turns/{turn['turn_id']}")).json()["stopped"] == ["run_python"]


async def test_interrupting_a_session_that_is_idle_changes_nothing(edge):
    session = (await edge.say("Hi"))["session_id"]

    for _ in range(2):
        response = await edge.http.post(f"/api/v1/sessions/{session}/interrupt")
        assert (response.status_code, response.json()["status"]) == (200, "idle")

    assert len(await edge.events(session)) == 6


class Deaf:
    """Sessions in which a cancel does not take."""

    def __init__(self, host) -> None:
        self._host = host

    def __getattr__(self, name):
        return getattr(self._host, name)

    async def cancel(self, session_id, user_id, turn_id):
        return None


@pytest.mark.parametrize("route", ["sessions/{session}/interrupt", "turns/{turn}/cancel"])
async def test_what_did_not_stop_is_not_said_to_have_stopped(make_edge, problem_of, until, route):
    llm = ScriptedLLM([[TextDelta("Once upon"), asyncio.Event()]])
    edge = await make_edge(llm, sessions=Deaf)
    turn = (await edge.http.post("/api/v1/chat", json={"message": "Tell"}, headers=LATER)).json()
    await until(lambda: llm.open)

    response = await edge.http.post(f"/api/v1/{route.format(session=turn['session_id'], turn=turn['turn_id'])}")

    assert problem_of(response, 503, "unavailable")["turn_id"] == turn["turn_id"]


@pytest.mark.parametrize("order", ["pause", "resume", "interrupt"])
async def test_of_another_user_there_is_nothing_to_order(edge, stranger, problem_of, order):
    session = (await edge.say("Secret"))["session_id"]

    for identifier in (session, "sess_none"):
        problem_of(await stranger.post(f"/api/v1/sessions/{identifier}/{order}"), 404, "session_not_found")

    assert len(await edge.events(session)) == 6


@pytest.mark.parametrize(("order", "event"), [("pause", "session.paused"), ("resume", "session.resumed")])
async def test_an_order_whose_answer_was_lost_may_be_given_again(make_edge, problem_of, order, event):
    class Lost(Deaf):
        async def control(self, session_id, user_id, order):
            await self._host.control(session_id, user_id, order)
            raise SessionLost("the host died when it had committed")

    edge = await make_edge(sessions=Lost)
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    if order == "resume":
        edge.mend()
        await edge.http.post(f"/api/v1/sessions/{session}/pause")
        edge.app.state.services = edge.services

    problem_of(await edge.http.post(f"/api/v1/sessions/{session}/{order}"), 503, "session_lost")
    edge.mend()

    assert (await edge.http.post(f"/api/v1/sessions/{session}/{order}")).status_code == 200
    assert [e["type"] for e in await edge.events(session)].count(event) == 1


@pytest.mark.parametrize("body", [None, {}, {"mode": "interrupt"}], ids=["none", "empty", "some"])
async def test_a_cancel_needs_no_body(edge, body):
    turn = (await edge.say("Hi"))["turn_id"]

    assert (await edge.http.post(f"/api/v1/turns/{turn}/cancel", json=body)).status_code == 200
