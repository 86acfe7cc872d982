"""POST /api/v1/chat, answered as JSON."""

import asyncio
import json
from decimal import Decimal

import pytest

from actors.core.errors import ModelProtocolError, ModelRefused, ModelUnavailable, StoreUnavailable
from actors.core.messages import AssistantMessage, UserMessage
from actors.llm.base import Answer, ModelInfo, TextDelta
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

FLOOD = "print('x' * 10**9)"


async def test_an_answer_tells_all_of_the_turn(make_edge):
    llm = ScriptedLLM(
        [calls(("run_python", {"code": "print(2)"}), text="Let me see."), says("It is ", "2.")],
    )
    edge = await make_edge(llm, sandboxes=FakeSandboxes({"print(2)": ExecResult("ok", 0, "2\n")}))

    response = await edge.http.post("/api/v1/chat", json={"message": "1+1?"})

    body = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    call = body["tool_calls"][0]
    assert isinstance(call.pop("duration_ms"), int)
    assert call.pop("id")
    assert json.loads(call.pop("arguments")) == {"code": "print(2)"}
    assert call == {"name": "run_python", "content": "2", "error": None}
    assert body.pop("session_id").startswith("sess_")
    assert body.pop("turn_id").startswith("turn_")
    del body["tool_calls"]
    assert body == {
        "success": True,
        "message": "It is 2.",
        "stop_reason": "end_turn",
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 12,
            "total_tokens": 32,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
        },
        "cost": {"micros": 20, "usd": "0.000020", "known": True},
    }


async def test_a_session_goes_on_with_what_was_said_before(make_edge):
    llm = ScriptedLLM(otherwise=says("Yes."))
    edge = await make_edge(llm)
    first = await edge.say("My name is Ada.")

    second = await edge.say("Who am I?", session_id=first["session_id"])

    assert second["session_id"] == first["session_id"]
    assert second["turn_id"] != first["turn_id"]
    said = [m.content for m in llm.requests[1].messages if isinstance(m, UserMessage)]
    assert said == ["My name is Ada.", "Who am I?"]


async def test_a_new_session_keeps_its_system_prompt_model_and_metadata(make_edge):
    llm = ScriptedLLM(otherwise=says("Aye."), models=("small", "large"))
    edge = await make_edge(llm)

    answer = await edge.say("Hi", model="large", system="Be a pirate.", metadata={"project": "apollo", "n": [1, None]})

    session = (await edge.http.get(f"/api/v1/sessions/{answer['session_id']}")).json()
    assert (session["model"], session["system"]) == ("large", "Be a pirate.")
    assert session["metadata"] == {"project": "apollo", "n": [1, None]}
    assert (llm.requests[0].model, llm.requests[0].messages[0].content) == ("large", "Be a pirate.")


async def test_a_model_may_be_named_for_one_message(make_edge):
    llm = ScriptedLLM(otherwise=says("Hm."), models=("small", "large"))
    edge = await make_edge(llm)
    answer = await edge.say("Hi")

    await edge.say("Think.", session_id=answer["session_id"], model="large")
    await edge.say("And now?", session_id=answer["session_id"])

    assert [request.model for request in llm.requests] == ["small", "large", "small"]


async def test_a_cost_that_nobody_knows_is_said_to_be_unknown(make_edge):
    edge = await make_edge(ScriptedLLM([says("Free?", cost_usd=None)]))

    assert (await edge.say("Hi"))["cost"] == {"micros": 0, "usd": "0.000000", "known": False}


async def test_dollars_are_written_exactly(make_edge):
    edge = await make_edge(ScriptedLLM([says("Dear.", cost_usd=Decimal("12.000345"))]))

    assert (await edge.say("Hi"))["cost"] == {"micros": 12_000_345, "usd": "12.000345", "known": True}


@pytest.mark.parametrize("text", ["naïve 🙂 \u2028 \r\n\ttabs", "nul\u0000nul", "\U0010ffff", "ﷺ" * 5000])
async def test_any_text_comes_back_as_it_was_sent(make_edge, text):
    edge = await make_edge(ScriptedLLM(otherwise=says(text)))

    answer = await edge.say(text, system=text, metadata={"k": text})

    assert answer["message"] == text
    events = await edge.events(answer["session_id"])
    assert next(e for e in events if e["type"] == "message.accepted")["content"] == text
    session = (await edge.http.get(f"/api/v1/sessions/{answer['session_id']}")).json()
    assert (session["system"], session["metadata"]) == (text, {"k": text})


# When it goes wrong ---------------------------------------------------------------------------------


async def test_an_unknown_session_is_not_found(edge, problem_of):
    response = await edge.http.post("/api/v1/chat", json={"message": "Hi", "session_id": "sess_none"})

    body = problem_of(response, 404, "session_not_found")
    assert body["session_id"] == "sess_none"


async def test_an_unknown_model_is_refused_and_no_session_is_made(edge, problem_of):
    response = await edge.http.post("/api/v1/chat", json={"message": "Hi", "model": "gpt-17"})

    body = problem_of(response, 422, "unknown_model")
    assert "gpt-17" in body["detail"]
    assert "/api/v1/models" in body["detail"]
    assert (await edge.http.get("/api/v1/sessions")).json()["data"] == []


class Unlisted(ScriptedLLM):
    """A model server that answers but lists nothing."""

    def __init__(self, error: Exception | None, **options) -> None:
        super().__init__(otherwise=says("Here."), **options)
        self._error = error

    async def models(self) -> tuple[ModelInfo, ...]:
        if self._error is not None:
            raise self._error
        return ()


@pytest.mark.parametrize(
    "error",
    [None, ModelUnavailable(), ModelProtocolError("no JSON"), ModelRefused("404: no such route")],
    ids=["empty list", "unavailable", "garbage", "refused"],
)
async def test_without_a_list_of_models_the_model_itself_decides(make_edge, error):
    edge = await make_edge(Unlisted(error, models=("scripted", "secret")))

    assert (await edge.say("Hi", model="secret"))["message"] == "Here."


@pytest.mark.parametrize(
    ("script", "status", "code", "retryable"),
    [
        ([ModelUnavailable("the model server cannot be reached: connection refused")], 503, "model_unavailable", True),
        ([TextDelta("Hal"), ModelUnavailable("it broke off", partial="Hal")], 503, "model_unavailable", True),
        ([ModelProtocolError("the model server sent no valid answer")], 502, "model_protocol_error", True),
        ([TextDelta("Hal")], 502, "model_protocol_error", True),
        ([ModelRefused("the model server does not accept the API key")], 502, "model_refused", False),
        ([RuntimeError("a defect")], 500, "internal", False),
    ],
    ids=["down", "dies half-way", "garbage", "ends without an answer", "refuses", "defect"],
)
async def test_a_turn_that_fails_says_so_is_recorded_and_the_session_goes_on(
    make_edge, problem_of, script, status, code, retryable
):
    edge = await make_edge(ScriptedLLM([script], otherwise=says("Better now.")))

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi"})

    body = problem_of(response, status, code)
    assert body["retryable"] is retryable
    turn = (await edge.http.get(f"/api/v1/turns/{body['turn_id']}")).json()
    assert (turn["status"], turn["stop_reason"]) == ("failed", "error")
    assert turn["error"] == {"code": code, "message": body["detail"], "retryable": retryable, "details": {}}
    terminal = [e["type"] for e in await edge.events(body["session_id"]) if e["type"].startswith("turn.")]
    assert terminal == ["turn.started", "turn.failed"]
    assert (await edge.say("Again?", session_id=body["session_id"]))["message"] == "Better now."


async def test_a_defect_is_told_without_its_insides(make_edge, problem_of):
    edge = await make_edge(ScriptedLLM([[RuntimeError("password=hunter2 in /srv/app/secret.py")]]))

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi"})

    assert "hunter2" not in problem_of(response, 500, "internal")["detail"]


@pytest.mark.parametrize(
    "script",
    [says("a\ud800b"), calls(("run_python", {"code": "1"}), ids=["\ud800"]), [TextDelta("\udfff"), ModelUnavailable()]],
    ids=["text", "id of a call", "partial text"],
)
async def test_what_a_model_sends_can_always_be_stored(make_edge, script):
    """Servers that cut a surrogate pair in two send such text, and JSON can hold it."""
    edge = await make_edge(ScriptedLLM([script], otherwise=says("Fine.")))

    response = await edge.http.post("/api/v1/chat", json={"message": "Hi"})

    session = response.json()["session_id"]
    terminal = [e["type"] for e in await edge.events(session) if e["type"] in {"turn.completed", "turn.failed"}]
    assert len(terminal) == 1
    assert (await edge.say("Again?", session_id=session))["message"] == "Fine."


async def test_what_a_model_sends_can_always_be_read_again(make_edge):
    deep: dict = {}
    for _ in range(220):
        deep = {"d": deep}
    spoken = AssistantMessage("Deep.", reasoning_details=(deep,))
    llm = ScriptedLLM([[Answer(spoken, "scripted", "stop")]], otherwise=says("Fine."))
    edge = await make_edge(llm)

    session = (await edge.http.post("/api/v1/chat", json={"message": "Hi"})).json()["session_id"]

    response = await edge.http.get(f"/api/v1/sessions/{session}/events")
    assert response.status_code == 200, response.text


async def test_what_was_said_before_a_model_died_stays_in_the_session(make_edge):
    edge = await make_edge(ScriptedLLM([[TextDelta("Half an "), TextDelta("ans"), ModelUnavailable()]]))

    body = (await edge.http.post("/api/v1/chat", json={"message": "Hi"})).json()

    events = {e["type"]: e for e in await edge.events(body["session_id"])}
    assert events["message.completed"]["content"] == "Half an ans"
    assert events["message.completed"]["finish_reason"] == "interrupted"


async def test_a_tool_that_never_ends_is_stopped_with_its_turn(make_edge):
    sandboxes = FakeSandboxes(hanging={"while True: pass"})
    llm = ScriptedLLM([calls(("run_python", {"code": "while True: pass"}))])
    edge = await make_edge(llm, sandboxes=sandboxes, turn_max_s=0.2)

    answer = await edge.say("Spin.")

    assert answer["stop_reason"] == "timeout"
    assert answer["tool_calls"][0]["error"] == "stopped"
    assert len(sandboxes.cancelled) == 1


async def test_a_model_that_calls_tools_for_ever_is_stopped(make_edge):
    llm = ScriptedLLM(otherwise=calls(("run_python", {"code": "1"})))
    edge = await make_edge(llm, turn_max_steps=3)

    answer = await edge.say("Loop.")

    assert answer["stop_reason"] == "max_steps"
    assert len(llm.requests) == 3
    assert len({call["id"] for call in answer["tool_calls"]}) == 3


async def test_a_flood_of_output_is_cut_for_the_model_the_journal_and_the_client(make_edge):
    sandboxes = FakeSandboxes({FLOOD: ExecResult("output_limit", None, "x" * 2_000_000, truncated=True)})
    llm = ScriptedLLM([calls(("run_python", {"code": FLOOD})), says("Too much.")])
    edge = await make_edge(llm, sandboxes=sandboxes, tool_output_chars=1000)

    response = await edge.http.post("/api/v1/chat", json={"message": "Flood."})

    call = response.json()["tool_calls"][0]
    assert call["error"] == "output_limit"
    assert len(call["content"]) <= 1000
    assert len(response.content) < 10_000
    journal = await edge.http.get(f"/api/v1/sessions/{response.json()['session_id']}/events")
    assert len(journal.content) < 20_000


async def test_messages_that_meet_run_one_after_the_other(make_edge):
    llm = ScriptedLLM(otherwise=says("Done."))
    edge = await make_edge(llm)
    session = (await edge.say("First"))["session_id"]

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(edge.say(f"At once {number}", session_id=session))

    order = [e["type"] for e in await edge.events(session) if e["type"] in {"turn.started", "turn.completed"}]
    assert order == ["turn.started", "turn.completed"] * 9


async def test_a_database_that_is_gone_is_503_and_the_next_request_may_succeed(make_edge, problem_of, monkeypatch):
    edge = await make_edge()
    session = (await edge.say("Hi"))["session_id"]

    async def gone(work):
        raise StoreUnavailable("the database does not answer: timeout")

    with monkeypatch.context() as broken:
        broken.setattr(edge.database, "write", gone)
        response = await edge.http.post("/api/v1/chat", json={"message": "Are you there?", "session_id": session})
        assert problem_of(response, 503, "store_unavailable")["retryable"] is True

    assert (await edge.say("And now?", session_id=session))["message"] == "Hello world"
