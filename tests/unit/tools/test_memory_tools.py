"""remember and recall: of this user only, once per call, dated by the clock."""

import json
from datetime import UTC, datetime

import pytest

from actors.testing import FakeClock
from actors.testing.memories import DictMemories
from actors.tools.memory import FACT_MAX_CHARS, memory_tools

REMEMBER, RECALL = memory_tools(FakeClock(datetime(2026, 5, 4, 12, tzinfo=UTC)))


async def test_a_kept_fact_is_recalled_with_its_day(context):
    kept = await REMEMBER.run(context, json.dumps({"text": "Ana's dog is called Rex."}))
    assert (kept.content, kept.error) == ("Remembered.", None)
    found = await RECALL.run(context, json.dumps({"query": "what is the dog called"}))
    assert found.content == "- 2026-05-04: Ana's dog is called Rex."
    [memory] = found.data["memories"]
    assert memory["id"] == kept.data["memory_id"]
    assert memory["session_id"] == "sess_1"
    assert memory["created_at"] == "2026-05-04T12:00:00.000000Z"
    assert 0 < memory["score"] <= 1


async def test_the_same_call_again_stores_nothing_twice(context):
    first = await REMEMBER.run(context, '{"text": "likes tea"}')
    again = await REMEMBER.run(context, '{"text": "likes tea"}')
    assert first.data == again.data
    assert first.data["memory_id"].startswith("mem_")
    assert len(first.data["memory_id"]) == len("mem_") + 32
    assert len((await RECALL.run(context, '{"query": "tea"}')).data["memories"]) == 1


@pytest.mark.parametrize("changes", [{"turn_id": "turn_2"}, {"tool_call_id": "call_2"}])
async def test_another_call_is_another_memory(make_context, changes):
    memories = DictMemories()
    await REMEMBER.run(make_context(memories=memories), '{"text": "likes tea"}')
    await REMEMBER.run(make_context(memories=memories, **changes), '{"text": "likes tea"}')
    assert len(await memories.recall("user_1", "tea")) == 2


async def test_a_call_id_that_comes_again_loses_no_fact(context):
    """Some model servers number the calls of each answer from 0."""
    await REMEMBER.run(context, '{"text": "likes tea"}')
    await REMEMBER.run(context, '{"text": "likes jazz"}')
    assert len(await context.memories.recall("user_1", "likes")) == 2


async def test_another_user_finds_nothing(make_context):
    memories = DictMemories()
    await REMEMBER.run(make_context(memories=memories), '{"text": "likes tea"}')
    found = await RECALL.run(make_context(memories=memories, user_id="user_2"), '{"query": "tea"}')
    assert found.content == "Nothing was kept about this user yet."
    assert found.data == {"memories": []}


async def test_limit_is_kept(context):
    for number in range(7):
        await REMEMBER.run(context, json.dumps({"text": f"fact {number}"}))
    assert len((await RECALL.run(context, '{"query": "fact"}')).data["memories"]) == 5
    assert len((await RECALL.run(context, '{"query": "fact", "limit": 2}')).data["memories"]) == 2


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (REMEMBER, {"text": ""}),
        (REMEMBER, {"text": "x" * (FACT_MAX_CHARS + 1)}),
        (RECALL, {"query": ""}),
        (RECALL, {"query": "x", "limit": 0}),
        (RECALL, {"query": "x", "limit": 21}),
    ],
)
async def test_arguments_out_of_range_are_for_the_model_to_mend(context, tool, arguments):
    result = await tool.run(context, json.dumps(arguments))
    assert result.error == "invalid_arguments"
