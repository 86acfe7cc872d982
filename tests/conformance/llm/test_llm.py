"""The contract of `actors/llm/base.py`, held by every model."""

import asyncio
import json
from contextlib import aclosing
from decimal import Decimal

import pytest

from actors.core.errors import ModelUnavailable, UnknownModel
from actors.llm.base import Answer, Began, ReasoningText, TextDelta


async def test_deltas_and_then_one_answer(row):
    *deltas, answer = await row.collect(row.HELLO)
    assert deltas
    assert all(isinstance(item, TextDelta | ReasoningText | Began) for item in deltas)
    assert isinstance(answer, Answer)
    assert answer.message.content == "".join(item.text for item in deltas if isinstance(item, TextDelta))
    assert answer.finish_reason == "stop"
    assert answer.message.tool_calls == ()


async def test_what_it_used_and_cost(row):
    answer = (await row.collect(row.HELLO))[-1]
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0
    assert isinstance(answer.cost_usd, Decimal)
    assert answer.cost_source in ("upstream", "free")
    assert answer.model


async def test_a_tool_call_is_whole(row):
    answer = (await row.collect(row.COMPUTE))[-1]
    [call] = answer.message.tool_calls
    assert call.name == "run_python"
    assert call.id
    assert "6*7" in json.loads(call.arguments)["code"]
    assert answer.finish_reason == "tool_calls"


async def test_an_unknown_model(row):
    with pytest.raises(UnknownModel):
        await row.collect(row.HELLO, model="no/such-model")


async def test_the_default_model_can_be_named_and_is_listed(row):
    assert await row.collect(row.HELLO, model=row.llm.default_model)
    assert row.llm.default_model in [model.id for model in await row.llm.models()]


async def test_closing_the_iterator_ends_it_at_once(row):
    async with asyncio.timeout(5), aclosing(row.llm.stream(row.request(row.SLOW))) as items:
        assert isinstance(await anext(items), TextDelta | Began)


async def test_cancelling_the_task_ends_it_at_once(row):
    begun = asyncio.Event()

    async def read():
        async for _ in row.llm.stream(row.request(row.SLOW)):
            begun.set()

    task = asyncio.create_task(read())
    async with asyncio.timeout(5):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_model_is_as_good_as_new_after_an_early_end(row):
    for _ in range(3):
        async with aclosing(row.llm.stream(row.request(row.SLOW))) as items:
            await anext(items)
    assert isinstance((await row.collect(row.HELLO))[-1], Answer)


async def test_many_streams_at_once(row):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(row.collect(row.HELLO)) for _ in range(30)]
    assert len({task.result()[-1].message.content for task in tasks}) == 1


async def test_a_closed_model_is_unavailable(row):
    await row.llm.aclose()
    with pytest.raises(ModelUnavailable):
        await row.collect(row.HELLO)


async def test_breaking_off_gives_no_answer_and_the_text_so_far(breaking_row):
    items = []

    async def read():
        async for item in breaking_row.llm.stream(breaking_row.request(breaking_row.BREAK)):
            items.append(item)

    with pytest.raises(ModelUnavailable) as raised:
        await read()
    assert [item for item in items if not isinstance(item, Began)] == [TextDelta("so"), TextDelta(" far")]
    assert raised.value.details["partial"] == "so far"
    assert raised.value.details["generation_id"].startswith("gen-")
