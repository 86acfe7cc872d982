"""The shipped test doubles, which other tests rely on."""

import asyncio
import json
from decimal import Decimal

import httpx
import pytest

from actors.core.errors import ModelRefused, UnknownModel
from actors.core.messages import AssistantMessage, ToolCall, UserMessage
from actors.llm.base import Answer, ModelRequest, TextDelta
from actors.llm.openai import OpenAIClient
from actors.testing import (
    CallTool,
    FakeClock,
    Reply,
    Rule,
    ScriptedLLM,
    ScriptedModelApp,
    StreamingASGITransport,
    calls,
    says,
    sequential_ids,
)

REQUEST = ModelRequest("", (UserMessage("hi"),))


# The clock and the ids ------------------------------------------------------------------------------


async def test_sleepers_wake_in_the_order_of_their_due_times():
    clock, woken = FakeClock(), []

    async def sleep(seconds):
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2, 9):
            group.create_task(sleep(seconds))
        await clock.sleeping(4)
        clock.advance(2.5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert woken == [1, 2]
        assert clock.sleeper_count == 2
        clock.advance(10)
    assert woken == [1, 2, 3, 9]


async def test_time_moves_only_when_it_is_told_to():
    clock = FakeClock()
    start = clock.now()
    await clock.sleep(0)
    clock.advance(60)
    assert (clock.now() - start).total_seconds() == clock.monotonic() == 60
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


async def test_cancelled_sleepers_do_not_count():
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.sleeping()
    task.cancel()
    await asyncio.wait([task])
    assert clock.sleeper_count == 0
    clock.advance(1)


def test_ids_count_by_kind():
    new_id = sequential_ids()
    assert [new_id("turn"), new_id("msg"), new_id("turn")] == ["turn_1", "msg_1", "turn_2"]


# The scripted model in process ----------------------------------------------------------------------


async def test_scripts_in_order_and_then_otherwise():
    llm = ScriptedLLM([says("a"), calls(("f", {"x": 1}), text="b")], otherwise=says("c"))
    answers = [[item async for item in llm.stream(REQUEST)][-1] for _ in range(4)]
    assert [answer.message for answer in answers] == [
        AssistantMessage("a"),
        AssistantMessage("b", (ToolCall("call_1", "f", '{"x": 1}'),)),
        AssistantMessage("c"),
        AssistantMessage("c"),
    ]
    assert llm.requests == [REQUEST] * 4
    assert (llm.open, llm.broken_off) == (0, 0)


async def test_a_script_can_wait_raise_and_run_out():
    gate = asyncio.Event()
    llm = ScriptedLLM([[TextDelta("a"), gate, *says("b")], [ModelRefused("no")]])
    stream = llm.stream(REQUEST)
    assert await anext(stream) == TextDelta("a")
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    assert await waiting == TextDelta("b")
    assert llm.open == 1
    await stream.aclose()
    assert (llm.open, llm.broken_off) == (0, 1)
    with pytest.raises(ModelRefused):
        await anext(llm.stream(REQUEST))
    with pytest.raises(AssertionError, match="2 scripts; this is call 3"):
        await anext(llm.stream(REQUEST))
    with pytest.raises(UnknownModel):
        await anext(llm.stream(ModelRequest("other", ())))


# The scripted server --------------------------------------------------------------------------------


async def ask(app: ScriptedModelApp, *messages, model="scripted") -> Answer:
    client = OpenAIClient(base_url="http://m.test/v1", default_model=model, transport=StreamingASGITransport(app))
    said = tuple(UserMessage(message) if isinstance(message, str) else message for message in messages)
    try:
        items = [item async for item in client.stream(ModelRequest(model, said))]
    finally:
        await client.aclose()
    assert isinstance(items[-1], Answer)
    return items[-1]


async def test_replies_in_order_and_a_bill():
    app = ScriptedModelApp([Reply(text=("a", "b")), Reply(tool_calls=(CallTool("f", '{"x":1}'),))])
    first, second, third = [await ask(app, "hi") for _ in range(3)]
    assert (first.message.content, third.message.content) == ("ab", "Hello from the script.")
    assert second.message.tool_calls == (ToolCall("call_0", "f", '{"x":1}'),)
    assert len({first.generation_id, second.generation_id, third.generation_id}) == 3
    assert app.bill.calls == app.bill.answered == 3
    assert app.bill.cost_usd == sum(answer.cost_usd for answer in (first, second, third))
    assert app.bill.completion_tokens == sum(answer.usage.completion_tokens for answer in (first, second, third)) == 16
    assert app.requests[0]["messages"] == [{"role": "user", "content": "hi"}]


async def test_a_directive_in_the_message():
    app = ScriptedModelApp()
    replies = [{"tool_calls": [{"name": "f", "arguments": {"x": 1}}]}, {"text": ["do", "ne"], "cost": 0}]
    directive = json.dumps({"replies": replies})
    first = await ask(app, directive)
    assert first.message.tool_calls[0].name == "f"
    assert (await ask(app, directive)).message == first.message, "the same request gets the same reply"
    second = await ask(app, directive, AssistantMessage("", first.message.tool_calls))
    assert (second.message.content, second.cost_usd) == ("done", Decimal(0))
    assert (await ask(app, '{"reply": {"text": "hey"}}')).message.content == "hey"


async def test_answers_are_counted_by_the_tag_of_their_directive():
    app = ScriptedModelApp()
    for tag in ("a", "b", "a"):
        await ask(app, json.dumps({"reply": {"text": "hey"}, "tag": tag}))
    await ask(app, json.dumps({"reply": {"text": "hey"}}))
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://m.test") as client:
        assert (await client.get("/_tags")).json() == {"a": 2, "b": 1}


async def test_rules_by_marker():
    rules = [Rule("count", (Reply(text=("1",)), Reply(text=("2",))), by="call"), Rule("step", (Reply(text=("s",)),))]
    app = ScriptedModelApp(rules=rules)
    said = [(await ask(app, message)).message.content for message in ("count!", "step", "count", "count", "other")]
    assert said == ["1", "s", "2", "2", "Hello from the script."]


async def test_an_error_and_then_an_answer():
    limited = Reply(status=503, body={"error": {"message": "busy", "code": 503}}, headers=(("retry-after", "0"),))
    app = ScriptedModelApp([limited, limited])
    assert (await ask(app, "hi")).message.content == "Hello from the script."
    assert (app.bill.calls, app.bill.answered) == (3, 1)


@pytest.mark.parametrize("members", [{"txt": "a"}, {"text": "a", "delay": 1}])
def test_a_reply_with_unknown_members_is_refused(members):
    with pytest.raises(ValueError, match="a reply has no"):
        Reply.from_json(members)


async def post(app, **body):
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://m.test") as client:
        return await client.post("/v1/chat/completions", json={"model": "m", "messages": [], **body})


async def test_unstreamed_answers():
    response = await post(ScriptedModelApp([Reply(text=("a", "b"), cost=Decimal("0.00001725"))]))
    body = response.json()
    assert body["choices"][0]["message"]["content"] == "ab"
    assert body["id"] == "gen-00000001"
    assert body["usage"]["cost"] == 1.725e-05


async def test_bytes_of_your_own():
    response = await post(ScriptedModelApp([Reply(raw=(b"data: nonsense\n\n", b"\xff"))]), stream=True)
    assert response.content == b"data: nonsense\n\n\xff"


async def test_models_bill_and_nothing_else():
    app = ScriptedModelApp(models=("a", "b"))
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://m.test") as client:
        assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == ["a", "b"]
        assert (await client.get("/_bill")).json() == {
            "calls": 0,
            "answered": 0,
            "disconnects": 0,
            "faults": 0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "cost_usd": "0",
        }
        assert (await client.get("/v1/nothing")).status_code == 404
    with pytest.raises(UnknownModel):
        await ask(app, "hi", model="c")


async def test_a_reader_that_goes_away_is_noticed():
    app = ScriptedModelApp([Reply(text=("a", "b"), cut_after=2, ending="hang")])
    client = OpenAIClient(base_url="http://m.test/v1", default_model="m", transport=StreamingASGITransport(app))
    stream = client.stream(REQUEST)
    assert await anext(stream) == TextDelta("a")
    await stream.aclose()
    await client.aclose()
    assert app.bill.disconnects == 1


@pytest.mark.parametrize(
    ("cut_after", "error"), [(0, httpx.ReadError), (2, httpx.ReadError)], ids=["before the headers", "after tokens"]
)
async def test_a_connection_can_be_torn_down(cut_after, error):
    with pytest.raises(error):
        await post(ScriptedModelApp([Reply(text=("a", "b"), cut_after=cut_after, ending="reset")]), stream=True)


# The transport --------------------------------------------------------------------------------------


async def test_an_answer_reaches_the_client_while_the_app_still_runs():
    gate = asyncio.Event()

    async def app(scope, receive, send):
        assert (await receive())["body"] == b"ping"
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1")]})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"two"})

    async with (
        httpx.AsyncClient(transport=StreamingASGITransport(app)) as client,
        client.stream("POST", "http://a.test/p?q=1", content=b"ping") as response,
    ):
        assert (response.status_code, response.headers["x-a"]) == (201, "1")
        pieces = response.aiter_bytes()
        assert await anext(pieces) == b"one"
        gate.set()
        assert await anext(pieces) == b"two"


@pytest.mark.parametrize(
    ("failure", "error"), [(ConnectionResetError("reset"), httpx.ReadError), (KeyError("bug"), KeyError)]
)
async def test_what_an_app_raises(failure, error):
    async def app(scope, receive, send):
        raise failure

    async with httpx.AsyncClient(transport=StreamingASGITransport(app)) as client:
        with pytest.raises(error):
            await client.get("http://a.test")
