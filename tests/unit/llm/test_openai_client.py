"""The client over a server made of bytes: requests, answers, an early end, the list of models."""

import asyncio
import itertools
from contextlib import aclosing
from decimal import Decimal

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.core.errors import InvalidInput, ModelUnavailable, UnknownModel
from actors.core.messages import ToolCall, Usage, UserMessage
from actors.llm.base import Answer, ModelRequest, TextDelta
from actors.llm.openai import OpenAIClient

DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"
USAGE = {"prompt_tokens": 13, "completion_tokens": 34, "total_tokens": 47, "cost": 0.0000224}


# Answers --------------------------------------------------------------------------------------------


async def test_a_streamed_answer(ask, upstream, whole):
    upstream.stream(*whole, x_generation_id="gen-header")
    outcome = await ask()
    assert outcome.items == [TextDelta("Hel"), TextDelta("lo")]
    answer = outcome.answer
    assert (answer.message.content, answer.finish_reason, answer.generation_id) == ("Hello", "stop", "gen-header")
    assert (answer.usage, answer.cost_usd, answer.cost_source) == (Usage(13, 34), Decimal("0.0000224"), "upstream")


async def test_the_request(ask, upstream, whole):
    upstream.stream(*whole)
    await ask(request=ModelRequest("", (UserMessage("hi"),)))
    request = upstream.requests[0]
    assert (request.method, str(request.url)) == ("POST", "http://model.test/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-secret"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == "model.test"
    assert upstream.sent()["model"] == "m", "the default model"


async def test_openrouter_is_asked_in_its_own_way(make_client, ask, upstream, whole):
    upstream.stream(*whole)
    await ask(make_client(base_url="https://openrouter.ai/api/v1/"))
    assert str(upstream.requests[0].url) == "https://openrouter.ai/api/v1/chat/completions"
    assert upstream.requests[0].headers["x-openrouter-title"] == "Greenroom"
    assert upstream.sent()["max_completion_tokens"] == 4096


async def test_no_key_no_header(make_client, ask, upstream, whole):
    upstream.stream(*whole)
    await ask(make_client(api_key=None))
    assert "authorization" not in upstream.requests[0].headers


async def test_tool_calls(ask, upstream, event):
    first = {"index": 0, "id": "call_abc123", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    upstream.stream(
        event(role="assistant", content=None, tool_calls=[first]),
        event(tool_calls=[{"index": 0, "function": {"arguments": '{"location":'}}]),
        event(tool_calls=[{"index": 0, "function": {"arguments": '"Boston"}'}}]),
        event(finish="tool_calls", native="tool_use"),
        DONE,
    )
    answer = (await ask()).answer
    assert answer.message.tool_calls == (ToolCall("call_abc123", "get_weather", '{"location":"Boston"}'),)
    assert answer.finish_reason == "tool_calls"


async def test_an_end_without_done_is_fine_after_the_finish(ask, upstream, whole):
    upstream.stream(*whole[:-1])
    assert (await ask()).answer.usage == Usage(13, 34)


async def test_a_response_is_read_to_its_end_so_that_its_connection_can_be_used_again(ask, upstream, whole):
    ended = asyncio.Event()

    async def end():
        ended.set()

    upstream.stream(*whole, COMMENT, end)
    assert (await ask()).answer
    assert ended.is_set()


async def test_a_response_without_an_end_is_left_after_done(client, upstream, whole):
    upstream.stream(*whole, asyncio.Event().wait)
    async with asyncio.timeout(5):
        items = [item async for item in client.stream(ModelRequest("m", (UserMessage("hi"),)))]
    assert items[-1].message.content == "Hello"
    assert upstream.bodies[0].closed


async def test_done_without_a_finish_is_fine(ask, upstream, event):
    upstream.stream(event(content="Hi"), DONE)
    assert (await ask()).answer.finish_reason == "stop"


@pytest.mark.parametrize("after", [[httpx.ReadError("reset")], [asyncio.Event().wait]], ids=["a reset", "silence"])
async def test_what_breaks_after_the_finish_costs_only_the_usage(ask, upstream, event, after):
    upstream.stream(event(content="Hi"), event(finish="stop"), *after)
    answer = (await ask()).answer
    assert (answer.message.content, answer.cost_source) == ("Hi", "unknown")


async def test_a_server_that_does_not_stream(ask, upstream):
    message = {"role": "assistant", "content": "Hello there!", "tool_calls": None}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    upstream.json(200, {"id": "gen-2", "model": "m", "choices": [choice], "usage": USAGE})
    outcome = await ask()
    assert outcome.text == outcome.answer.message.content == "Hello there!"


async def test_line_separators_in_content_split_nothing(ask, upstream, event):
    upstream.stream(event(content="a\u2028b\u2029c\x85d"), event(finish="stop"), DONE)
    assert (await ask()).answer.message.content == "a\u2028b\u2029c\x85d"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 2000), max_size=12), line_end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_the_same_answer_however_the_bytes_are_split(upstream, event, cuts, line_end):
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x": "é"}'}}
    stream = b"".join(
        [
            COMMENT,
            event(reasoning="hm… ", reasoning_details=[{"type": "reasoning.text", "text": "hm… ", "index": 0}]),
            event(content="Grüße \u2028 日本 🎭"),
            event(tool_calls=[call]),
            event(finish="tool_calls", usage=USAGE),
            DONE,
        ]
    ).replace(b"\n", line_end.encode())
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]

    async def answer_of(*steps: bytes) -> tuple[str, Answer]:
        upstream.stream(*steps)
        client = OpenAIClient(base_url="http://m.test", default_model="m", transport=httpx.MockTransport(upstream))
        items = [item async for item in client.stream(ModelRequest("m", (UserMessage("hi"),)))]
        await client.aclose()
        return "".join(item.text for item in items[:-1] if isinstance(item, TextDelta)), items[-1]

    split, one = asyncio.run(answer_of(*pieces)), asyncio.run(answer_of(stream))
    assert split == one
    assert one[1].message.tool_calls == (ToolCall("a", "f", '{"x": "é"}'),)


# Ending early ---------------------------------------------------------------------------------------


async def test_closing_the_iterator_ends_the_request(client, upstream, event, clock):
    upstream.stream(event(content="Hel"), asyncio.Event().wait)
    async with aclosing(client.stream(ModelRequest("m", (UserMessage("hi"),)))) as items:
        assert await anext(items) == TextDelta("Hel")
    assert upstream.bodies[0].closed
    await asyncio.sleep(0)
    assert clock.sleeper_count == 0


async def test_cancelling_the_task_ends_the_request(client, upstream, event, clock):
    waiting = asyncio.Event()

    async def wait_for_ever():
        waiting.set()
        await asyncio.Event().wait()

    async def read():
        async for _ in client.stream(ModelRequest("m", (UserMessage("hi"),))):
            pass

    upstream.stream(event(content="Hel"), wait_for_ever)
    task = asyncio.create_task(read())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.bodies[0].closed
    assert len(upstream.requests) == 1


# Models ---------------------------------------------------------------------------------------------

LIST = {"data": [{"id": "vendor/m", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}, {"id": "vendor/n"}]}


async def test_the_list_gives_prices(client, ask, upstream, event):
    upstream.json(200, LIST)
    assert [model.id for model in await client.models()] == ["vendor/m", "vendor/n"]
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    upstream.stream(event(content="x"), event({"model": "vendor/m", "choices": [], "usage": usage}), DONE)
    answer = (await ask(request=ModelRequest("vendor/m", (UserMessage("hi"),)))).answer
    assert (answer.cost_usd, answer.cost_source) == (Decimal("0.00002"), "price_list")


async def test_a_refusal_of_a_model_that_is_not_listed_is_an_unknown_model(client, ask, upstream):
    upstream.json(200, LIST)
    await client.models()
    upstream.json(400, {"error": {"message": "bad request", "code": 400}})
    error = (await ask(request=ModelRequest("vendor/mm", (UserMessage("hi"),)))).error
    assert isinstance(error, UnknownModel)
    assert "did you mean vendor/m" in error.message


async def test_a_model_that_is_not_listed_is_asked_for_all_the_same(client, ask, upstream, whole):
    upstream.json(200, LIST)
    await client.models()
    upstream.stream(*whole)
    assert (await ask(request=ModelRequest("@preset/mine", (UserMessage("hi"),)))).answer


@pytest.mark.parametrize(
    "response", [httpx.Response(500), httpx.Response(200, text="[]"), httpx.ConnectError("refused")]
)
async def test_no_list(client, upstream, response):
    upstream.responses.append(response)
    with pytest.raises(ModelUnavailable):
        await client.models()


# Set-up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "localhost:11434/v1",
        "ftp://model.test",
        "http://",
        "http://model.test/v1/chat/completions",
        "http://model.test:port",
    ],
)
def test_a_base_url_that_is_none(base_url):
    with pytest.raises(InvalidInput):
        OpenAIClient(base_url=base_url, default_model="m")
