"""Turns: what became of one, and stopping it."""

import asyncio

import pytest

from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

LATER = {"prefer": "respond-async"}


@pytest.fixture
def begin(until):
    """Sends a message and waits until the n-th call of the model is under way."""

    async def send(edge, llm, call):
        turn = (await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers=LATER)).json()
        await until(lambda: len(llm.requests) >= call and llm.open)
        return turn

    return send


async def test_a_completed_turn(edge):
    answer = await edge.say("Hi")

    turn = (await edge.http.get(f"/api/v1/turns/{answer['turn_id']}")).json()

    assert turn.pop("created_at") <= turn.pop("finished_at")
    accepted = (await edge.events(answer["session_id"]))[1]
    assert turn == {
        "id": answer["turn_id"],
        "session_id": answer["session_id"],
        "message_id": accepted["message_id"],
        "status": "completed",
        "stop_reason": "end_turn",
        "error": None,
        "stopped": [],
        "steps": 1,
        "usage": answer["usage"],
        "cost": answer["cost"],
    }


async def test_an_unknown_turn_is_not_found(edge, problem_of):
    problem_of(await edge.http.get("/api/v1/turns/turn_none"), 404, "turn_not_found")
    problem_of(await edge.http.post("/api/v1/turns/turn_none/cancel"), 404, "turn_not_found")


async def test_cancelling_stops_the_model_and_says_what_was_spent(make_edge, begin):
    gate = asyncio.Event()
    llm = ScriptedLLM([calls(("run_python", {"code": "1"})), [TextDelta("Once upon"), gate]])
    edge = await make_edge(llm)
    turn = await begin(edge, llm, 2)

    response = await edge.http.post(f"/api/v1/turns/{turn['turn_id']}/cancel")

    body = response.json()
    assert response.status_code == 200
    assert (body["status"], body["stop_reason"], body["error"]) == ("cancelled", "cancelled", None)
    assert body["stopped"] == ["model"]
    assert body["finished_at"] is not None
    assert (body["steps"], body["usage"]["total_tokens"]) == (2, 20)
    # What the second call cost nobody knows.
    assert body["cost"] == {"micros": 10, "usd": "0.000010", "known": False}
    assert (llm.open, llm.broken_off) == (0, 1)


async def test_cancelling_stops_the_tool(make_edge):
    sandboxes = FakeSandboxes(hanging={"while True: pass"})
    edge = await make_edge(ScriptedLLM([calls(("run_python", {"code": "while True: pass"}))]), sandboxes=sandboxes)
    turn = (await edge.http.post("/api/v1/chat", json={"message": "Spin"}, headers=LATER)).json()
    async with asyncio.timeout(10):
        await sandboxes.started.wait()

    cancelled = (await edge.http.post(f"/api/v1/turns/{turn['turn_id']}/cancel")).json()

    assert cancelled["stopped"] == ["run_python"]
    assert len(sandboxes.cancelled) == 1
    events = {e["type"]: e for e in await edge.events(turn["session_id"])}
    assert events["turn.cancelled"]["stopped"] == ["run_python"]
    assert events["tool.completed"]["error"] == "stopped"


async def test_cancelling_again_changes_nothing(make_edge, begin):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Once upon"), gate]])
    edge = await make_edge(llm)
    turn = await begin(edge, llm, 1)
    path = f"/api/v1/turns/{turn['turn_id']}/cancel"

    async with asyncio.TaskGroup() as group:
        at_once = [group.create_task(edge.http.post(path)) for _ in range(5)]
    first = at_once[0].result()
    later = await edge.http.post(path)

    for answer in (*(task.result() for task in at_once), later):
        assert (answer.status_code, answer.json()) == (200, first.json())
    terminal = [e for e in await edge.events(turn["session_id"]) if e["type"] == "turn.cancelled"]
    assert len(terminal) == 1


async def test_a_turn_that_has_ended_stays_as_it_ended(edge):
    answer = await edge.say("Hi")
    before = (await edge.http.get(f"/api/v1/turns/{answer['turn_id']}")).json()

    response = await edge.http.post(f"/api/v1/turns/{answer['turn_id']}/cancel")

    assert (response.status_code, response.json()) == (200, before)


async def test_a_queued_turn_is_cancelled_without_running(make_edge, begin):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("First"), gate, *says("First")[1:]]], otherwise=says("Third"))
    edge = await make_edge(llm)
    first = await begin(edge, llm, 1)
    body = {"message": "Second", "session_id": first["session_id"]}
    second = (await edge.http.post("/api/v1/chat", json=body, headers=LATER)).json()

    cancelled = (await edge.http.post(f"/api/v1/turns/{second['turn_id']}/cancel")).json()
    gate.set()
    third = await edge.say("Third", session_id=first["session_id"])

    assert (cancelled["status"], cancelled["steps"], cancelled["cost"]["micros"]) == ("cancelled", 0, 0)
    assert third["message"] == "Third"
    assert len(llm.requests) == 2


async def test_the_session_goes_on_after_a_cancel(make_edge, begin):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Once upon"), gate]], otherwise=says("Of course."))
    edge = await make_edge(llm)
    turn = await begin(edge, llm, 1)
    await edge.http.post(f"/api/v1/turns/{turn['turn_id']}/cancel")

    assert (await edge.say("Something else?", session_id=turn["session_id"]))["message"] == "Of course."


async def test_who_waits_for_a_turn_that_is_cancelled_is_told_so(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Once upon"), gate]])
    edge = await make_edge(llm)
    await edge.http.post("/api/v1/sessions", json={"id": "mine"})
    waiting = asyncio.create_task(edge.http.post("/api/v1/chat", json={"message": "Hi", "session_id": "mine"}))
    await until(lambda: llm.open)
    turn_id = (await edge.events("mine"))[1]["turn_id"]

    await edge.http.post(f"/api/v1/turns/{turn_id}/cancel")

    response = await waiting
    assert response.status_code == 200
    assert response.json()["stop_reason"] == "cancelled"
    assert response.json()["message"] == "Once upon"
