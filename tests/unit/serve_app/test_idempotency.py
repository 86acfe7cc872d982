"""The same Idempotency-Key and body again: one turn, whose answer is told as often as it is asked for."""

import asyncio
import uuid

import pytest

from actors.core.errors import ModelRefused, SessionLost, StoreUnavailable
from actors.core.ids import derived_id
from actors.llm.base import TextDelta
from actors.sandbox.base import ExecResult
from actors.security.keys import Principal
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes
from serve_app.bodies import MessageRequest
from serve_app.idempotency import Identity

CHAT = "/api/v1/chat"
SSE = {"accept": "text/event-stream"}
LATER = {"prefer": "respond-async"}


def key(name: str = "k-1", **more: str) -> dict[str, str]:
    return {"idempotency-key": name, **more}


def replayed(response) -> bool:
    return response.headers.get("idempotency-replayed") == "true"


# One answer ----------------------------------------------------------------------------------------


async def test_a_repeat_of_a_turn_that_has_ended_gets_the_same_answer(make_edge):
    llm = ScriptedLLM([calls(("run_python", {"code": "print(2)"}), text="Let me see."), says("It is ", "2.")])
    edge = await make_edge(llm, sandboxes=FakeSandboxes({"print(2)": ExecResult("ok", 0, "2\n")}))

    first = await edge.http.post(CHAT, json={"message": "1+1?"}, headers=key())
    again = await edge.http.post(CHAT, json={"message": "1+1?"}, headers=key())

    assert (first.status_code, replayed(first)) == (200, False)
    assert (again.status_code, replayed(again)) == (200, True)
    assert again.json() == first.json()
    assert first.json()["tool_calls"][0]["content"] == "2"
    assert len(llm.requests) == 2
    assert len((await edge.http.get("/api/v1/sessions")).json()["data"]) == 1


async def test_the_answer_is_found_behind_what_the_session_did_since(make_edge):
    edge = await make_edge(ScriptedLLM([says("Seven.")], otherwise=says("More.")))
    first = await edge.http.post(CHAT, json={"message": "Pick a number."}, headers=key())
    session = first.json()["session_id"]
    for number in range(60):
        await edge.say(str(number), session_id=session)

    again = await edge.http.post(CHAT, json={"message": "Pick a number."}, headers=key())

    assert again.json() == first.json()
    assert again.json()["message"] == "Seven."


async def test_a_turn_that_failed_fails_again_in_the_same_way(make_edge, problem_of):
    llm = ScriptedLLM([[ModelRefused("no credit")]], otherwise=says("Never."))
    edge = await make_edge(llm)

    told = []
    for _ in range(2):
        response = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())
        told.append(problem_of(response, 502, "model_refused"))
        told[-1].pop("request_id")

    assert told[0] == told[1]
    assert replayed(response)
    assert len(llm.requests) == 1


async def test_a_turn_that_was_cancelled_stays_cancelled(make_edge, until):
    llm = ScriptedLLM([[TextDelta("Once upon"), asyncio.Event()]])
    edge = await make_edge(llm)
    later = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(**LATER))
    await until(lambda: llm.open)
    await edge.http.post(f"/api/v1/turns/{later.json()['turn_id']}/cancel")

    again = (await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())).json()

    assert (again["stop_reason"], again["turn_id"]) == ("cancelled", later.json()["turn_id"])


async def test_a_stream_of_a_turn_that_has_ended_tells_its_events_again(edge, parse):
    first = await edge.http.post(CHAT, json={"message": "Hi", "stream": True}, headers=key())
    again = await edge.http.post(CHAT, json={"message": "Hi", "stream": True}, headers=key())

    assert (replayed(first), replayed(again)) == (False, True)
    events = [event.json() for event in parse(again.content)]
    assert events == [event.json() for event in parse(first.content) if "seq" in event.json()]
    assert [event.id for event in parse(again.content)] == ["2", "3", "4", "5", "6"]
    assert events[-1]["type"] == "turn.completed"
    for header in ("x-session-id", "x-turn-id", "content-type", "cache-control"):
        assert again.headers[header] == first.headers[header]


async def test_a_replay_asks_no_session(make_edge):
    class Gone:
        """Every process that hosts sessions is away."""

        def __init__(self, host) -> None:
            self._host, self.gone = host, False

        def __getattr__(self, name):
            if self.gone:
                raise SessionLost(name)
            return getattr(self._host, name)

    edge = await make_edge(sessions=Gone)
    first = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())
    edge.services.sessions.gone = True

    assert (await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())).json() == first.json()
    stream = await edge.http.post(CHAT, json={"message": "Hi", "stream": True}, headers=key())
    assert b"event: turn.completed" in stream.content
    later = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(**LATER))
    assert (later.status_code, later.json()["turn_id"]) == (202, first.json()["turn_id"])


@pytest.mark.parametrize("repeat", ["json", "stream", "accept", "later"])
@pytest.mark.parametrize("first", ["json", "stream", "accept", "later"])
async def test_the_form_of_the_answer_may_differ_from_repeat_to_repeat(edge, first, repeat):
    def ask(how):
        body = {"message": "Hi", **({"stream": True} if how == "stream" else {})}
        return edge.http.post(CHAT, json=body, headers=key(**{"accept": SSE, "later": LATER}.get(how, {})))

    told = [_turn_of(await ask(how)) for how in (first, repeat)]

    assert told[0] == told[1]
    assert len((await edge.http.get("/api/v1/sessions")).json()["data"]) == 1


async def test_a_replay_is_told_although_its_model_is_there_no_more(make_edge):
    llm = ScriptedLLM(otherwise=says("Here."), models=("small", "large"))
    edge = await make_edge(llm)
    body = {"message": "Hi", "model": "large"}
    first = await edge.http.post(CHAT, json=body, headers=key())
    llm._models = ("small",)

    assert (await edge.http.post(CHAT, json=body, headers=key())).json() == first.json()


# While it runs -------------------------------------------------------------------------------------


async def test_a_repeat_while_the_turn_runs_waits_for_it(make_edge, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("Slow"), gate, *says("Slow", "ly")[1:]]])
    edge = await make_edge(llm)
    later = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(**LATER))
    await until(lambda: llm.open)
    again = asyncio.create_task(edge.http.post(CHAT, json={"message": "Hi"}, headers=key()))
    stream = asyncio.create_task(edge.http.post(CHAT, json={"message": "Hi", "stream": True}, headers=key()))
    once_more = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(**LATER))
    gate.set()

    assert once_more.json() == later.json()
    assert replayed(once_more)
    assert ((await again).json()["message"], replayed(await again)) == ("Slowly", True)
    assert (b"event: message.accepted" in (await stream).content, replayed(await stream)) == (True, True)
    assert (await stream).content.count(b"event: turn.completed") == 1
    assert len(llm.requests) == 1


async def test_a_repeat_of_a_message_that_waits_tells_its_place(make_edge):
    gate = asyncio.Event()
    edge = await make_edge(ScriptedLLM([[gate, *says("One.")]], otherwise=says("More.")))
    first = (await edge.http.post(CHAT, json={"message": "1"}, headers=LATER)).json()
    body = {"session_id": first["session_id"], "message": "2"}

    told = [(await edge.http.post(CHAT, json=body, headers=key(**LATER))).json() for _ in range(3)]
    gate.set()

    assert {answer["position"] for answer in told} == {1}
    assert len({answer["turn_id"] for answer in told}) == 1
    assert (await edge.http.post(CHAT, json=body, headers=key())).json()["message"] == "More."


# Another body, another key -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"message": "Bye"},
        {"message": "Hi", "model": "scripted"},
        {"message": "Hi", "system": "Be brief."},
        {"message": "Hi", "metadata": {"a": 1}},
        {"message": "Hi", "on_busy": "steer"},
        {"message": "Hi", "approvals": ["run_shell"]},
    ],
    ids=lambda body: next(reversed(body)),
)
async def test_the_key_with_another_body_is_refused(edge, problem_of, other):
    first = (await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())).json()

    for more in ({}, SSE, LATER):
        response = await edge.http.post(CHAT, json=other, headers=key(**more))
        problem = problem_of(response, 422, "idempotency_key_reused")
        assert (problem["session_id"], problem["turn_id"]) == (first["session_id"], first["turn_id"])

    assert len((await edge.http.get("/api/v1/sessions")).json()["data"]) == 1


@pytest.mark.parametrize(
    "same",
    [
        {"message": "Hi", "model": None, "session_id": None},
        {"metadata": {}, "approvals": [], "message": "Hi"},
        {"message": "Hi", "on_busy": "enqueue", "stream": False},
    ],
    ids=["nulls", "empty", "defaults"],
)
async def test_what_says_the_same_is_the_same_body(edge, same):
    first = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())

    again = await edge.http.post(CHAT, json=same, headers=key())

    assert again.json() == first.json()


async def test_the_order_of_members_does_not_matter(edge):
    metadata = {"a": 1, "b": {"c": 2, "d": 3}}
    first = await edge.http.post(CHAT, json={"message": "Hi", "metadata": metadata}, headers=key())

    other_order = {"metadata": {"b": {"d": 3, "c": 2}, "a": 1}, "message": "Hi"}

    assert (await edge.http.post(CHAT, json=other_order, headers=key())).json() == first.json()


async def test_a_member_that_a_later_version_knows_changes_no_fingerprint():
    class Later(MessageRequest):
        priority: int = 0

    def fingerprint(body):
        return Identity.of("k", Principal("user_1", "", frozenset()), "POST /x", body, fresh=str).fingerprint

    assert fingerprint(Later(message="Hi")) == fingerprint(MessageRequest(message="Hi"))
    assert fingerprint(Later(message="Hi", priority=1)) != fingerprint(MessageRequest(message="Hi"))


async def test_another_key_is_another_request(edge):
    told = [(await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(name))).json() for name in ("k-1", "K-1")]

    assert told[0]["turn_id"] != told[1]["turn_id"]
    assert told[0]["session_id"] != told[1]["session_id"]


async def test_a_key_in_one_session_is_no_key_in_another(edge, problem_of):
    mine = (await edge.say("Hi"))["session_id"]
    other = (await edge.say("Hi"))["session_id"]
    await edge.http.post(CHAT, json={"message": "Go", "session_id": mine}, headers=key())

    response = await edge.http.post(CHAT, json={"message": "Go", "session_id": other}, headers=key())

    problem_of(response, 422, "idempotency_key_reused")
    assert len(await edge.events(other)) == 6


async def test_keys_belong_to_their_user(edge, stranger):
    mine = (await edge.http.post(CHAT, json={"message": "Secret"}, headers=key())).json()

    theirs = await stranger.post(CHAT, json={"message": "Other"}, headers=key())

    assert (theirs.status_code, replayed(theirs)) == (200, False)
    assert theirs.json()["turn_id"] != mine["turn_id"]


async def test_keys_belong_to_their_route(edge):
    session = (await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())).json()["session_id"]

    message = await edge.http.post(f"/api/v1/sessions/{session}/messages", json={"message": "Hi"}, headers=key())
    opened = await edge.http.post("/api/v1/sessions", json={}, headers=key())

    assert (message.status_code, replayed(message)) == (202, False)
    assert (opened.status_code, replayed(opened)) == (201, False)


# Keys that are none --------------------------------------------------------------------------------

ROUTES = [
    "/api/v1/chat",
    "/api/v1/sessions",
    "/api/v1/sessions/s/messages",
    "/api/v1/sessions/s/pause",
    "/api/v1/sessions/s/resume",
    "/api/v1/sessions/s/interrupt",
    "/api/v1/sessions/s/fork",
    "/api/v1/turns/t/cancel",
    "/api/v1/approvals/a",
]


@pytest.mark.parametrize("name", [b"", b"two words", b"k" * 256, b"schl\xc3\xbcssel", b"tab\tbed"])
async def test_a_key_that_is_none_is_refused_everywhere(edge, problem_of, name):
    for route in ROUTES:
        body = {"message": "Hi"} if route.endswith(("chat", "messages")) else {}
        body = {"decision": "deny"} if "approvals" in route else body
        problem = problem_of(
            await edge.http.post(route, json=body, headers={"idempotency-key": name}), 422, "invalid_input"
        )
        assert problem["errors"] == [
            {"field": "idempotency-key", "message": "a key has 1 to 255 visible ASCII characters, e.g. a UUID"}
        ]
    assert (await edge.http.get("/api/v1/sessions")).json()["data"] == []


@pytest.mark.parametrize("name", ["k", "k" * 255, "!~", '"quoted"', str(uuid.uuid4()), "a,b;c=d"])
async def test_a_key_is_any_visible_ascii(edge, name):
    told = [(await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(name))).json() for _ in range(2)]

    assert told[0] == told[1]


async def test_two_keys_are_one_too_many(edge, problem_of):
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]

    problem_of(await edge.http.post(CHAT, json={"message": "Hi"}, headers=headers), 422, "invalid_input")


# What was not accepted -----------------------------------------------------------------------------


async def test_a_request_that_was_refused_did_not_use_its_key_up(make_edge, problem_of):
    llm = ScriptedLLM(otherwise=says("Here."), models=("small",))
    edge = await make_edge(llm)
    problem_of(await edge.http.post(CHAT, json={"message": "Hi", "model": "big"}, headers=key()), 422, "unknown_model")

    response = await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())

    assert (response.status_code, replayed(response)) == (200, False)


async def test_a_message_that_was_rejected_may_be_sent_again_under_its_key(make_edge, problem_of, until):
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("One.")]], otherwise=says("Two."))
    edge = await make_edge(llm)
    running = (await edge.http.post(CHAT, json={"message": "1"}, headers=LATER)).json()
    await until(lambda: llm.open)
    body = {"session_id": running["session_id"], "message": "2", "on_busy": "reject"}

    problem = problem_of(await edge.http.post(CHAT, json=body, headers=key()), 409, "session_busy")
    gate.set()
    await edge.ended(running["turn_id"])

    assert problem["turn_id"] == running["turn_id"]
    assert (await edge.http.post(CHAT, json=body, headers=key())).json()["message"] == "Two."


class AnswerLost:
    """Sessions that accept a message, and whose answer is lost on its way."""

    def __init__(self, host) -> None:
        self._host, self.losses = host, 1

    def __getattr__(self, name):
        return getattr(self._host, name)

    async def submit(self, command):
        return self._lost(await self._host.submit(command))

    async def chat(self, command, *, wait_s):
        return self._lost(await self._host.chat(command, wait_s=wait_s))

    def _lost(self, answer):
        if self.losses:
            self.losses -= 1
            raise SessionLost("the host died when it had committed")
        return answer


@pytest.mark.parametrize("how", ["json", "stream", "later", "messages"])
async def test_a_request_whose_answer_was_lost_is_one_turn_all_the_same(make_edge, problem_of, how):
    llm = ScriptedLLM(otherwise=says("Once."))
    edge = await make_edge(llm, sessions=AnswerLost)
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    route = f"/api/v1/sessions/{session}/messages" if how == "messages" else CHAT
    body = {"message": "Hi"} if how == "messages" else {"message": "Hi", "session_id": session}
    headers = key(**{"stream": SSE, "later": LATER}.get(how, {}))

    problem_of(await edge.http.post(route, json=body, headers=headers), 503, "session_lost")
    again = await edge.http.post(route, json=body, headers=headers)

    assert again.status_code in {200, 202}
    assert replayed(again)
    events = await edge.events(session)
    assert [event["type"] for event in events].count("message.accepted") == 1
    await edge.ended(events[1]["turn_id"])
    assert len(llm.requests) == 1


async def test_a_store_that_is_away_uses_no_key_up(make_edge, problem_of):
    edge = await make_edge()

    async def fail(*_):
        raise StoreUnavailable

    honest, edge.services.book.turn = edge.services.book.turn, fail
    problem_of(await edge.http.post(CHAT, json={"message": "Hi"}, headers=key()), 503, "store_unavailable")
    edge.services.book.turn = honest

    assert replayed(await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())) is False


# Deleted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["json", "stream", "later"])
async def test_a_key_of_a_deleted_session_does_not_bring_it_back(make_edge, problem_of, how):
    llm = ScriptedLLM(otherwise=says("Hello."))
    edge = await make_edge(llm)
    first = (await edge.http.post(CHAT, json={"message": "Hi"}, headers=key())).json()
    await edge.http.delete(f"/api/v1/sessions/{first['session_id']}")

    for _ in range(2):
        headers = key(**{"stream": SSE, "later": LATER}.get(how, {}))
        problem_of(await edge.http.post(CHAT, json={"message": "Hi"}, headers=headers), 404, "session_not_found")

    assert len(llm.requests) == 1
    assert (await edge.http.get("/api/v1/sessions")).json()["data"] == []


async def test_a_key_in_a_session_that_was_deleted_is_not_found(edge, problem_of):
    session = (await edge.say("Hi"))["session_id"]
    body = {"message": "More", "session_id": session}
    await edge.http.post(CHAT, json=body, headers=key())
    await edge.http.delete(f"/api/v1/sessions/{session}")

    problem_of(await edge.http.post(CHAT, json=body, headers=key()), 404, "session_not_found")


async def test_the_key_itself_is_nowhere_in_the_database(edge, tmp_path):
    name = "my-very-secret-key-0815"
    answer = (await edge.http.post(CHAT, json={"message": "Hi"}, headers=key(name))).json()

    assert answer["turn_id"] == derived_id("turn", "user_admin", "POST /api/v1/chat", name)
    for file in (tmp_path / "home").glob("greenroom.db*"):
        assert name.encode() not in file.read_bytes()


# Sessions ------------------------------------------------------------------------------------------


async def test_opening_a_session_again_finds_it(edge):
    body = {"system": "Be brief.", "metadata": {"a": 1}}
    first = await edge.http.post("/api/v1/sessions", json=body, headers=key())
    again = await edge.http.post("/api/v1/sessions", json=body, headers=key())

    assert (first.status_code, replayed(first)) == (201, False)
    assert (again.status_code, replayed(again)) == (201, True)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]


async def test_opening_another_session_under_the_key_is_refused(edge, problem_of):
    first = await edge.http.post("/api/v1/sessions", json={"system": "A"}, headers=key())

    response = await edge.http.post("/api/v1/sessions", json={"system": "B"}, headers=key())

    assert problem_of(response, 422, "idempotency_key_reused")["session_id"] == first.json()["id"]


async def test_a_session_of_ones_own_id_is_recognised_by_it(edge):
    body = {"id": "mine", "system": "A"}
    first = await edge.http.post("/api/v1/sessions", json=body, headers=key())
    again = await edge.http.post("/api/v1/sessions", json=body, headers=key())
    other = await edge.http.post("/api/v1/sessions", json={"id": "mine"}, headers=key("k-2"))

    assert (first.status_code, replayed(first)) == (201, False)
    assert (again.status_code, replayed(again)) == (201, True)
    assert (other.status_code, replayed(other)) == (200, False)
    assert first.json() == again.json() == other.json()


async def test_a_key_of_a_session_that_was_deleted_opens_no_other(edge, problem_of):
    session = (await edge.http.post("/api/v1/sessions", json={}, headers=key())).json()["id"]
    await edge.http.delete(f"/api/v1/sessions/{session}")

    problem = problem_of(await edge.http.post("/api/v1/sessions", json={}, headers=key()), 404, "session_not_found")

    assert "use a new key" in problem["detail"]


async def test_a_session_that_was_refused_did_not_use_the_key_up(edge, problem_of):
    problem_of(await edge.http.post("/api/v1/sessions", json={"model": "big"}, headers=key()), 422, "unknown_model")

    assert (await edge.http.post("/api/v1/sessions", json={}, headers=key())).status_code == 201


def _turn_of(response) -> str:
    assert response.status_code in {200, 202}, response.text
    return response.headers.get("x-turn-id") or response.json()["turn_id"]
