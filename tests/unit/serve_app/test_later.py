"""Chat that is answered before its turn has ended, or after its host has."""

import asyncio

import pytest

from actors.agent.sessions import Receipt
from actors.llm.base import TextDelta
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes


async def test_a_long_turn_is_answered_with_where_to_look(make_edge):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[TextDelta("Slow"), gate, *says("Slow", "ly")[1:]]]), chat_wait_s=0.05)

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi"})

    body = response.json()
    assert response.status_code == 202
    assert body.keys() == {"session_id", "turn_id", "message_id", "position", "status", "approval_ids"}
    assert (body["position"], body["status"], body["approval_ids"]) == (0, "running", [])
    assert response.headers["location"] == f"/api/v1/turns/{body['turn_id']}"
    turn = (await edge.http.get(response.headers["location"])).json()
    assert (turn["status"], turn["stop_reason"], turn["finished_at"]) == ("running", None, None)
    gate.set()
    assert (await edge.ended(body["turn_id"]))["status"] == "completed"
    assert [e["content"] for e in await edge.events(body["session_id"]) if e["type"] == "message.completed"] == [
        "Slowly"
    ]


@pytest.mark.parametrize("prefer", ["respond-async", "respond-async, wait=10", "handling=lenient, respond-async"])
async def test_a_client_may_prefer_not_to_wait(make_edge, prefer):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[gate, *says("Done.")]]))

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi"}, headers={"prefer": prefer})

    assert response.status_code == 202
    body = response.json()
    assert body.keys() == {"session_id", "turn_id", "message_id", "position"}
    # What was answered with 2xx is in the journal already.
    assert [e["type"] for e in await edge.events(body["session_id"])][:2] == ["session.created", "message.accepted"]
    gate.set()
    assert (await edge.ended(body["turn_id"]))["status"] == "completed"


async def test_messages_behind_a_running_turn_know_their_place(make_edge):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[gate, *says("One.")]], otherwise=says("More.")))
    later = {"prefer": "respond-async"}
    first = (await edge.http.post("/api/v1/chat", json={"message": "1"}, headers=later)).json()
    body = {"session_id": first["session_id"], "message": "2"}

    second = (await edge.http.post("/api/v1/chat", json=body, headers=later)).json()
    third = (await edge.http.post("/api/v1/chat", json={**body, "message": "3"}, headers=later)).json()

    assert [first["position"], second["position"], third["position"]] == [0, 1, 2]
    assert (await edge.http.get(f"/api/v1/turns/{third['turn_id']}")).json()["status"] == "queued"
    gate.set()
    for turn in (first, second, third):
        assert (await edge.ended(turn["turn_id"]))["status"] == "completed"


class LostAnswers:
    """Sessions whose host dies when a turn has ended: callers get the receipt, the journal has the rest."""

    def __init__(self, host) -> None:
        self._host = host

    def __getattr__(self, name):
        return getattr(self._host, name)

    async def chat(self, command, *, wait_s):
        result = await self._host.chat(command, wait_s=wait_s)
        return Receipt(result.session_id, result.turn_id, command.message_id, 2, 0)


async def test_a_result_that_was_lost_is_read_back_from_the_journal(make_edge, tmp_path):
    def script():
        return [calls(("run_python", {"code": "print(2)"}), text="Let me see."), says("It is ", "2.")]

    sandboxes = FakeSandboxes({"print(2)": ExecResult("ok", 0, "2\n")})
    edge = await make_edge(ScriptedLLM([*script(), *script()]), sandboxes=sandboxes)
    told = await edge.say("1+1?")
    edge.app.state.services = _with_sessions(edge.services, LostAnswers(edge.host))

    replayed = await edge.say("1+1?", session_id=told["session_id"])

    for answer in (told, replayed):
        answer.pop("turn_id")
        for call in answer["tool_calls"]:
            call.pop("duration_ms")
            call.pop("id")
    assert replayed == told


async def test_a_lost_result_is_found_at_the_end_of_a_long_history(make_edge):
    edge = await make_edge(ScriptedLLM(otherwise=says("Hello", " world")))
    session = (await edge.say("1"))["session_id"]
    for number in range(2, 27):
        await edge.say(str(number), session_id=session)
    edge.app.state.services = _with_sessions(edge.services, LostAnswers(edge.host))

    answer = await edge.say("last", session_id=session)

    assert answer["message"] == "Hello world"


async def test_a_lost_failure_is_told_as_the_failure_it_was(make_edge, problem_of):
    edge = await make_edge(ScriptedLLM([[RuntimeError("a defect")]]), sessions=LostAnswers)

    body = problem_of(await edge.http.post("/api/v1/chat", json={"message": "Hi"}), 500, "internal")

    assert body["turn_id"].startswith("turn_")


def _with_sessions(services, sessions):
    from dataclasses import replace

    return replace(services, sessions=sessions)
