"""Repeats that meet: many at once, over several processes, with answers that are lost, and under two bodies."""

import asyncio
import itertools
import random
from collections import defaultdict
from dataclasses import replace

import pytest

from actors.core.errors import SessionLost
from actors.testing import ScriptedLLM, says
from actors.testing.sandboxes import FakeSandboxes
from serve_app.api import create_api
from serve_app.idempotency import Underway

CHAT = "/api/v1/chat"
HOW = {
    "json": ({}, {}),
    "stream": ({"stream": True}, {}),
    "accept": ({}, {"accept": "text/event-stream"}),
    "later": ({}, {"prefer": "respond-async"}),
}


def ask(http, how, body, name, route=CHAT):
    more, headers = HOW[how]
    return http.post(route, json={**body, **more}, headers={**headers, "idempotency-key": name})


def turn_of(response) -> str:
    return response.headers.get("x-turn-id") or response.json()["turn_id"]


@pytest.mark.parametrize("hows", [("json",), ("stream",), ("later",), tuple(HOW)], ids="+".join)
@pytest.mark.parametrize("opens", [True, False], ids=["new session", "known session"])
async def test_of_twenty_at_once_there_is_one_turn(make_edge, hows, opens):
    llm = ScriptedLLM(otherwise=says("Once."))
    edge = await make_edge(llm)
    body = {"message": "Hi"}
    if not opens:
        body["session_id"] = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]

    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(ask(edge.http, how, body, "k-1")) for how in itertools.islice(itertools.cycle(hows), 20)
        ]
    told = [task.result() for task in asked]

    assert {response.status_code for response in told} <= {200, 202}
    (turn,) = {turn_of(response) for response in told}
    await edge.ended(turn)
    assert len(llm.requests) == 1
    (session,) = (await edge.http.get("/api/v1/sessions")).json()["data"]
    events = await edge.events(session["id"])
    assert [event["type"] for event in events].count("message.accepted") == 1
    for response in told:
        if response.headers["content-type"].startswith("text/event-stream"):
            assert response.content.count(b"event: message.accepted") == 1
            assert response.content.count(b"event: turn.completed") == 1
        elif response.status_code == 200:
            assert response.json()["message"] == "Once."


async def test_of_twenty_messages_at_once_there_is_one(make_edge):
    edge = await make_edge()
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    route = f"/api/v1/sessions/{session}/messages"

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(edge.http, "json", {"message": "Hi"}, "k-1", route)) for _ in range(20)]

    assert {task.result().status_code for task in asked} == {202}
    assert len({task.result().json()["message_id"] for task in asked}) == 1
    assert [e["type"] for e in await edge.events(session)].count("message.accepted") == 1


@pytest.mark.parametrize("route", ["/api/v1/sessions", "/api/v1/sessions/{session}/fork"], ids=["sessions", "fork"])
async def test_of_twenty_who_open_a_session_at_once_there_is_one(edge, route):
    session = (await edge.say("Hi"))["session_id"]
    body = {"include": ["workspace"]} if route.endswith("fork") else {"system": "Be brief."}

    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(ask(edge.http, "json", body, "k-1", route.format(session=session))) for _ in range(20)
        ]

    told = [task.result() for task in asked]
    assert {response.status_code for response in told} == {201}
    assert len({response.json()["id"] for response in told}) == 1
    assert sorted("idempotency-replayed" in response.headers for response in told) == [False] + [True] * 19
    assert len((await edge.http.get("/api/v1/sessions")).json()["data"]) == 2


@pytest.mark.parametrize("opens", [True, False], ids=["new session", "known session"])
async def test_of_two_bodies_at_once_under_one_key_one_is_taken(make_edge, opens):
    llm = ScriptedLLM(otherwise=says("Once."))
    edge = await make_edge(llm)
    more = {} if opens else {"session_id": (await edge.http.post("/api/v1/sessions", json={})).json()["id"]}

    async with asyncio.TaskGroup() as group:
        asked = {
            number: group.create_task(ask(edge.http, "json", {"message": f"{number % 2}", **more}, "k-1"))
            for number in range(20)
        }

    codes = [{task.result().status_code for number, task in asked.items() if number % 2 == side} for side in (0, 1)]
    assert sorted(codes, key=max) == [{200}, {422}]
    assert len(llm.requests) == 1


async def test_of_two_sessions_at_once_under_one_key_one_gets_the_message(make_edge):
    """Each of them sees a message that is new to it: the two are told apart before they are asked."""
    llm = ScriptedLLM(otherwise=says("Once."))
    edge = await make_edge(llm)
    sessions = [(await edge.http.post("/api/v1/sessions", json={})).json()["id"] for _ in range(2)]

    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(ask(edge.http, "json", {"message": "Hi", "session_id": session}, "k-1"))
            for session in sessions * 5
        ]

    assert sorted(task.result().status_code for task in asked) == [200] * 5 + [422] * 5
    assert sorted([len(await edge.events(session)) for session in sessions]) == [1, 6]
    assert len(llm.requests) == 1


async def test_a_key_is_free_again_when_its_request_was_refused(make_edge):
    edge = await make_edge(ScriptedLLM(otherwise=says("Here."), models=("small",)))

    assert (await ask(edge.http, "json", {"message": "Hi", "model": "big"}, "k-1")).status_code == 422
    assert (await ask(edge.http, "json", {"message": "Bye"}, "k-1")).status_code == 200


class Unreliable:
    """Sessions behind a network: a call, or its answer, is lost now and then."""

    def __init__(self, host, dice: random.Random) -> None:
        self._host, self._dice = host, dice

    def __getattr__(self, name):
        return getattr(self._host, name)

    async def submit(self, command):
        return await self._over_the_network(self._host.submit(command))

    async def chat(self, command, *, wait_s):
        return await self._over_the_network(self._host.chat(command, wait_s=wait_s))

    async def _over_the_network(self, call):
        fate = self._dice.random()
        if fate < 0.15:
            call.close()
            raise SessionLost("lost on its way there")
        answer = await call
        if fate < 0.3:
            raise SessionLost("lost on its way back")
        return answer


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_lost_and_repeated_a_key_is_one_turn(make_edge, seed):
    """Clients who repeat until they are answered, on two replicas over one fleet, under few keys and two bodies."""
    dice = random.Random(seed)
    llm = ScriptedLLM(otherwise=says("Once."))
    edge = await make_edge(llm, sandboxes=FakeSandboxes(), sessions=lambda host: Unreliable(host, dice))
    other = create_api(replace(edge.services, underway=Underway()))
    known = [(await edge.http.post("/api/v1/sessions", json={})).json()["id"] for _ in range(2)]
    turns: dict[str, set[str]] = defaultdict(set)
    bodies: dict[str, set[str]] = defaultdict(set)

    async def client(http) -> None:
        for _ in range(10):
            name, side = f"k-{dice.randrange(6)}", dice.randrange(2)
            # The session belongs to the key: to two sessions at once, over two replicas, is a client's mistake.
            session = [None, *known][int(name[2:]) % 3]
            body = {"message": f"{name} {side}", **({"session_id": session} if session else {})}
            while True:
                response = await ask(http, dice.choice(list(HOW)), body, name)
                if response.status_code != 503:
                    break
            if response.status_code == 422:
                assert response.json()["code"] == "idempotency_key_reused"
                continue
            assert response.status_code in {200, 202}, response.text
            turns[name].add(turn_of(response))
            bodies[name].add(body["message"])

    async with edge.beside(other) as second, asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(client((edge.http, second)[number % 2]))

    assert all(len(found) == 1 for found in [*turns.values(), *bodies.values()]), (turns, bodies)
    accepted = []
    for session in (await edge.http.get("/api/v1/sessions")).json()["data"]:
        accepted += [event for event in await edge.events(session["id"]) if event["type"] == "message.accepted"]
    assert sorted(event["content"] for event in accepted) == sorted(body for (body,) in bodies.values())
    for event in accepted:
        await edge.ended(event["turn_id"])
    assert len(llm.requests) == len(accepted) == len(turns)
