"""Messages to a session that nobody waits for, and those that wait: seen, changed, taken back."""

import asyncio

import pytest

from actors.core.errors import SessionLost
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

NONE = "msg_" + "0" * 32


@pytest.fixture
async def busy(make_edge, until):
    """A session whose first turn runs until its gate is opened; `send` puts messages behind it."""

    class Busy:
        async def begin(self, **options):
            self.gate = asyncio.Event()
            self.llm = ScriptedLLM([[TextDelta("One"), self.gate, *says("One", ".")[1:]]], otherwise=says("More."))
            self.edge = await make_edge(self.llm, **options)
            later = {"prefer": "respond-async"}
            self.first = (await self.edge.http.post("/api/v1/chat", json={"message": "1"}, headers=later)).json()
            self.path = f"/api/v1/sessions/{self.first['session_id']}"
            await until(lambda: self.llm.open)
            return self

        async def send(self, message, **members):
            response = await self.edge.http.post(f"{self.path}/messages", json={"message": message, **members})
            assert response.status_code == 202, response.text
            return response.json()

        async def inbox(self):
            answer = (await self.edge.http.get(f"{self.path}/inbox")).json()
            assert answer["object"] == "list"
            return answer["data"]

        async def said(self):
            events = await self.edge.events(self.first["session_id"])
            return [event for event in events if event["type"] == "message.accepted"]

    return Busy()


# Sending -------------------------------------------------------------------------------------------


async def test_a_message_is_answered_when_it_is_in_the_journal(edge):
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]

    response = await edge.http.post(f"/api/v1/sessions/{session}/messages", json={"message": "Hi"})

    body = response.json()
    assert response.status_code == 202
    assert body.keys() == {"session_id", "turn_id", "message_id", "position"}
    assert (body["session_id"], body["position"]) == (session, 0)
    assert response.headers["location"] == f"/api/v1/turns/{body['turn_id']}"
    accepted = (await edge.events(session))[1]
    assert (accepted["message_id"], accepted["turn_id"], accepted["content"]) == (
        body["message_id"],
        body["turn_id"],
        "Hi",
    )
    assert (await edge.ended(body["turn_id"]))["status"] == "completed"


async def test_messages_behind_a_turn_wait_in_their_order(busy):
    busy = await busy.begin()
    sent = [await busy.send(text) for text in ("2", "3", "4")]

    assert [message["position"] for message in sent] == [1, 2, 3]
    assert await busy.inbox() == [
        {
            "message_id": message["message_id"],
            "turn_id": message["turn_id"],
            "content": text,
            "on_busy": "enqueue",
            "position": position,
        }
        for position, (message, text) in enumerate(zip(sent, ("2", "3", "4"), strict=True), start=1)
    ]
    busy.gate.set()
    for message in sent:
        assert (await busy.edge.ended(message["turn_id"]))["status"] == "completed"
    assert await busy.inbox() == []


async def test_a_model_may_be_named_for_a_message(make_edge, problem_of):
    llm = ScriptedLLM(otherwise=says("Hm."), models=("small", "large"))
    edge = await make_edge(llm)
    path = f"/api/v1/sessions/{(await edge.http.post('/api/v1/sessions', json={})).json()['id']}/messages"

    sent = await edge.http.post(path, json={"message": "Think.", "model": "large"})
    await edge.ended(sent.json()["turn_id"])

    assert llm.requests[0].model == "large"
    problem_of(await edge.http.post(path, json={"message": "Hi", "model": "gpt-17"}), 422, "unknown_model")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": " \n"}, "message"),
        ({"message": 3}, "message"),
        ({"message": "Hi", "on_busy": "shout"}, "on_busy"),
        ({"message": "Hi", "stream": True}, "stream"),
        ({"message": "Hi", "session_id": "other"}, "session_id"),
    ],
    ids=str,
)
async def test_a_wrong_message_is_refused(edge, problem_of, body, field):
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]

    problem = problem_of(await edge.http.post(f"/api/v1/sessions/{session}/messages", json=body), 422, "invalid_input")

    assert [error["field"] for error in problem["errors"]] == [field]
    assert len(await edge.events(session)) == 1


async def test_a_message_may_be_as_long_as_in_chat(make_edge, problem_of):
    edge = await make_edge(message_max_bytes=1000)
    path = f"/api/v1/sessions/{(await edge.http.post('/api/v1/sessions', json={})).json()['id']}/messages"

    assert (await edge.http.post(path, json={"message": "x" * 1000})).status_code == 202
    problem_of(await edge.http.post(path, json={"message": "x" * 1001}), 413, "message_too_large")
    problem_of(await edge.http.post(path, json={"message": "é" * 501}), 413, "message_too_large")


async def test_a_lone_surrogate_is_no_message(edge, problem_of):
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    path, json = f"/api/v1/sessions/{session}/messages", {"content-type": "application/json"}

    problem_of(await edge.http.post(path, content=rb'{"message": "\ud800"}', headers=json), 422, "invalid_input")


async def test_a_full_inbox_says_so(busy, problem_of):
    busy = await busy.begin(inbox_max=2)
    await busy.send("2")
    await busy.send("3")

    problem_of(await busy.edge.http.post(f"{busy.path}/messages", json={"message": "4"}), 429, "inbox_full")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "messages", {"message": "Hi"}),
        ("GET", "inbox", None),
        ("PATCH", f"inbox/{NONE}", {"message": "Hi"}),
        ("DELETE", f"inbox/{NONE}", None),
    ],
)
async def test_another_users_session_is_not_found(edge, stranger, problem_of, method, path, body):
    session = (await edge.say("Secret"))["session_id"]

    for identifier in (session, "sess_none"):
        response = await stranger.request(method, f"/api/v1/sessions/{identifier}/{path}", json=body)
        problem_of(response, 404, "session_not_found")


# on_busy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["messages", "chat"])
async def test_reject_names_the_turn_that_runs(busy, problem_of, route):
    busy = await busy.begin()
    body = {"message": "2", "on_busy": "reject"}
    path = f"{busy.path}/messages"
    if route == "chat":
        path, body = "/api/v1/chat", {**body, "session_id": busy.first["session_id"]}

    problem = problem_of(await busy.edge.http.post(path, json=body), 409, "session_busy")

    assert (problem["turn_id"], problem["session_id"]) == (busy.first["turn_id"], busy.first["session_id"])
    assert problem["retryable"]
    assert len(await busy.said()) == 1


async def test_reject_is_taken_by_a_session_that_is_idle(edge):
    session = (await edge.say("Hi"))["session_id"]

    assert (await edge.say("More", session_id=session, on_busy="reject"))["message"] == "Hello world"


async def test_interrupt_cancels_what_runs_and_goes_before_what_waits(busy):
    busy = await busy.begin()
    waits = await busy.send("waits")

    answer = await busy.edge.say("now!", session_id=busy.first["session_id"], on_busy="interrupt")

    assert answer["message"] == "More."
    assert (await busy.edge.ended(busy.first["turn_id"]))["status"] == "cancelled"
    assert (await busy.edge.ended(waits["turn_id"]))["status"] == "completed"
    said = [request.messages[-1].content for request in busy.llm.requests]
    assert said == ["1", "now!", "waits"]


async def test_steer_is_taken_into_the_turn_that_runs(make_edge):
    sandboxes = FakeSandboxes(hanging={"while True: pass"})
    llm = ScriptedLLM([calls(("run_python", {"code": "while True: pass"}))], otherwise=says("As you wish."))
    edge = await make_edge(llm, sandboxes=sandboxes, sandbox_command_s=0.05)
    later = {"prefer": "respond-async"}
    first = (await edge.http.post("/api/v1/chat", json={"message": "Spin"}, headers=later)).json()
    path = f"/api/v1/sessions/{first['session_id']}"
    async with asyncio.timeout(10):
        await sandboxes.started.wait()

    steer = (await edge.http.post(f"{path}/messages", json={"message": "Stop that.", "on_busy": "steer"})).json()
    (entry,) = (await edge.http.get(f"{path}/inbox")).json()["data"]
    await edge.http.post(f"/api/v1/turns/{first['turn_id']}/cancel")
    ended = await edge.ended(steer["turn_id"])

    assert (entry["message_id"], entry["on_busy"], entry["position"]) == (steer["message_id"], "steer", 1)
    # The turn that it was to steer was cancelled: it gets its own.
    assert (ended["status"], ended["stop_reason"]) == ("completed", "end_turn")


async def test_a_steered_message_is_answered_by_the_turn_that_took_it(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Hm"), gate, *calls(("list_files", {}))]], otherwise=says("Blue, then."))
    edge = await make_edge(llm)
    later = {"prefer": "respond-async"}
    first = (await edge.http.post("/api/v1/chat", json={"message": "Red."}, headers=later)).json()
    await until(lambda: llm.open)
    steer = asyncio.create_task(edge.say("No, blue.", session_id=first["session_id"], on_busy="steer"))
    while len([e for e in await edge.events(first["session_id"]) if e["type"] == "message.accepted"]) < 2:
        pass
    gate.set()

    answer = await steer

    assert (answer["message"], answer["stop_reason"]) == ("", "steered")
    assert (await edge.ended(first["turn_id"]))["stop_reason"] == "end_turn"
    said = [message.content for message in llm.requests[1].messages]
    assert said[-1] == "No, blue."
    events = {event["type"]: event for event in await edge.events(first["session_id"])}
    assert events["message.steered"]["into_turn_id"] == first["turn_id"]


# Changing ------------------------------------------------------------------------------------------


async def test_a_message_that_waits_may_be_changed(busy):
    busy = await busy.begin()
    sent = await busy.send("2")
    path = f"{busy.path}/inbox/{sent['message_id']}"

    response = await busy.edge.http.patch(path, json={"message": "two"})
    again = await busy.edge.http.patch(path, json={"message": "two"})
    busy.gate.set()
    await busy.edge.ended(sent["turn_id"])

    assert response.status_code == 200
    assert response.json() == {
        "message_id": sent["message_id"],
        "turn_id": sent["turn_id"],
        "content": "two",
        "on_busy": "enqueue",
        "position": 1,
    }
    assert again.json() == response.json()
    assert busy.llm.requests[1].messages[-1].content == "two"
    edited = [e for e in await busy.edge.events(busy.first["session_id"]) if e["type"] == "message.edited"]
    assert [event["content"] for event in edited] == ["two"]


async def test_what_has_begun_can_no_longer_be_changed(busy, problem_of):
    busy = await busy.begin()
    (begun,) = await busy.said()
    path = f"{busy.path}/inbox/{begun['message_id']}"

    problem = problem_of(await busy.edge.http.patch(path, json={"message": "one"}), 409, "message_not_waiting")
    assert (problem["message_id"], problem["turn_id"]) == (begun["message_id"], begun["turn_id"])
    busy.gate.set()
    await busy.edge.ended(begun["turn_id"])
    problem_of(await busy.edge.http.patch(path, json={"message": "one"}), 409, "message_not_waiting")


async def test_a_change_that_took_effect_may_be_asked_for_again_whatever_came_after(busy):
    """The answer to the first request was lost, and its turn has begun, and ended, meanwhile."""
    busy = await busy.begin()
    sent = await busy.send("2")
    path = f"{busy.path}/inbox/{sent['message_id']}"
    await busy.edge.http.patch(path, json={"message": "two"})
    busy.gate.set()
    await busy.edge.ended(sent["turn_id"])

    again = await busy.edge.http.patch(path, json={"message": "two"})

    assert again.status_code == 200
    assert (again.json()["content"], again.json()["position"], again.json()["on_busy"]) == ("two", 0, "enqueue")


async def test_a_message_of_long_ago_is_not_taken_for_an_unknown_one(edge, problem_of):
    """A session remembers the newest 256 of its messages."""
    session = (await edge.say("first"))["session_id"]
    old = (await edge.events(session))[1]["message_id"]
    for _ in range(257):
        await edge.http.post(f"/api/v1/sessions/{session}/messages", json={"message": "x", "on_busy": "interrupt"})
    path = f"/api/v1/sessions/{session}/inbox/{old}"

    problem_of(await edge.http.patch(path, json={"message": "other"}), 409, "message_not_waiting")
    problem_of(await edge.http.delete(path), 409, "message_not_waiting")


@pytest.mark.parametrize("body", [{}, {"message": " "}, {"message": None}, {"message": "Hi", "model": "x"}], ids=str)
async def test_a_wrong_change_is_refused(busy, problem_of, body):
    busy = await busy.begin()
    sent = await busy.send("2")

    response = await busy.edge.http.patch(f"{busy.path}/inbox/{sent['message_id']}", json=body)

    problem_of(response, 422, "invalid_input")
    assert [entry["content"] for entry in await busy.inbox()] == ["2"]


async def test_a_change_may_be_as_long_as_a_message(busy, problem_of):
    busy = await busy.begin(message_max_bytes=100)
    sent = await busy.send("2")

    response = await busy.edge.http.patch(f"{busy.path}/inbox/{sent['message_id']}", json={"message": "x" * 101})

    problem_of(response, 413, "message_too_large")


# Taking back ---------------------------------------------------------------------------------------


async def test_a_message_that_waits_may_be_taken_back(busy):
    busy = await busy.begin()
    second, third = await busy.send("2"), await busy.send("3")

    response = await busy.edge.http.delete(f"{busy.path}/inbox/{second['message_id']}")
    (left,) = await busy.inbox()
    busy.gate.set()
    await busy.edge.ended(third["turn_id"])

    assert (response.status_code, response.content) == (204, b"")
    assert (left["message_id"], left["position"]) == (third["message_id"], 1)
    turn = await busy.edge.ended(second["turn_id"])
    assert (turn["status"], turn["steps"], turn["cost"]["micros"]) == ("cancelled", 0, 0)
    assert [request.messages[-1].content for request in busy.llm.requests] == ["1", "3"]


async def test_taking_it_back_again_is_fine_also_for_a_session_that_has_left_memory(busy):
    busy = await busy.begin()
    sent = await busy.send("2")
    path = f"{busy.path}/inbox/{sent['message_id']}"
    told = [(await busy.edge.http.delete(path)).status_code for _ in range(2)]
    busy.gate.set()
    await busy.edge.ended(busy.first["turn_id"])
    await busy.edge.passivate()

    told.append((await busy.edge.http.delete(path)).status_code)

    assert told == [204, 204, 204]
    events = await busy.edge.events(busy.first["session_id"])
    assert [event["type"] for event in events].count("turn.cancelled") == 1


async def test_what_has_begun_cannot_be_taken_back(busy, problem_of):
    busy = await busy.begin()
    (begun,) = await busy.said()
    path = f"{busy.path}/inbox/{begun['message_id']}"

    problem_of(await busy.edge.http.delete(path), 409, "message_not_waiting")
    await busy.edge.http.post(f"/api/v1/turns/{begun['turn_id']}/cancel")
    busy.gate.set()
    # Cancelled, but in the middle of its work.
    problem_of(await busy.edge.http.delete(path), 409, "message_not_waiting")


async def test_a_message_that_never_was_is_not_found(busy, problem_of):
    busy = await busy.begin()
    path = f"{busy.path}/inbox/{NONE}"

    assert problem_of(await busy.edge.http.delete(path), 404, "message_not_found")["message_id"] == NONE
    problem_of(await busy.edge.http.patch(path, json={"message": "x"}), 404, "message_not_found")


async def test_a_message_of_another_session_is_not_found_in_this_one(busy, problem_of):
    busy = await busy.begin()
    sent = await busy.send("2")
    other = (await busy.edge.http.post("/api/v1/sessions", json={})).json()["id"]

    problem_of(
        await busy.edge.http.delete(f"/api/v1/sessions/{other}/inbox/{sent['message_id']}"), 404, "message_not_found"
    )
    assert len(await busy.inbox()) == 1


class OrderLost:
    """Sessions whose answer to an order is lost: it was carried out all the same."""

    def __init__(self, host) -> None:
        self._host = host

    def __getattr__(self, name):
        return getattr(self._host, name)

    async def control(self, session_id, user_id, order):
        await self._host.control(session_id, user_id, order)
        raise SessionLost("the host died when it had committed")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_an_order_whose_answer_was_lost_may_be_given_again(busy, problem_of, method):
    busy = await busy.begin(sessions=OrderLost)
    sent = await busy.send("2")
    path, body = f"{busy.path}/inbox/{sent['message_id']}", {"message": "two"} if method == "PATCH" else None
    problem_of(await busy.edge.http.request(method, path, json=body), 503, "session_lost")
    busy.edge.mend()

    again = await busy.edge.http.request(method, path, json=body)

    assert again.status_code == {"PATCH": 200, "DELETE": 204}[method]
    events = [event["type"] for event in await busy.edge.events(busy.first["session_id"])]
    assert events.count({"PATCH": "message.edited", "DELETE": "turn.cancelled"}[method]) == 1
