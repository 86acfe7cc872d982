"""What every `MemoryStore` does."""

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOSTILE = [
    "' OR 1=1 --",
    "' OR '1'='1",
    "user_1' OR user_id != '",
    '"',
    "\\",
    "\\'",
    "''",
    "`",
    "%",
    "_",
    "*",
    "user_1",
    "USER_1",
    "user_1 ",
    "user_1\0",
    "\0",
    "",
    "null",
    "true",
    "1",
    "ü",
    "u\u0308",
    "\u202euser_1",
    "用户",
    "; DROP TABLE memories",
    "user_id",
    "${user_id}",
]
USER_IDS = st.sampled_from(HOSTILE) | st.text(max_size=30)
SLOW = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


async def test_a_memory_comes_back_as_it_was(memories, make_memory):
    memory = make_memory("Ana's dog is called Rex.")
    await memories.remember(memory)
    [found] = await memories.recall("user_1", "What is the dog of Ana called?")
    assert found.memory == memory
    assert 0 < found.score <= 1


async def test_a_store_without_memories_finds_none(memories):
    assert await memories.recall("user_1", "anything") == ()


async def test_the_nearest_comes_first(memories, make_memory):
    for text in (
        "The car is green.",
        "The dog of Ana is called Rex.",
        "Lisbon lies by the sea.",
        "Two plus two is four.",
    ):
        await memories.remember(make_memory(text))
    found = await memories.recall("user_1", "The dog of Ana is called what?")
    assert len(found) == 4
    assert found[0].memory.text == "The dog of Ana is called Rex."
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)


async def test_limit_is_kept(memories, make_memory):
    await remember_all(memories, [make_memory(f"fact {number}") for number in range(110)])
    assert len(await memories.recall("user_1", "fact")) == 5
    assert len(await memories.recall("user_1", "fact", limit=7)) == 7
    assert len(await memories.recall("user_1", "fact", limit=10_000)) == 100
    assert await memories.recall("user_1", "fact", limit=0) == ()
    assert await memories.recall("user_1", "fact", limit=-1) == ()


async def test_the_same_id_again_changes_nothing(memories, make_memory):
    first = make_memory("likes tea", id="mem_x")
    await memories.remember(first)
    await memories.remember(make_memory("likes coffee", id="mem_x"))
    await memories.remember(first)
    assert [item.memory for item in await memories.recall("user_1", "likes")] == [first]


async def test_the_same_id_at_the_same_time_is_stored_once(memories, make_memory):
    first = make_memory("likes tea", id="mem_x")
    await remember_all(memories, [first, first, make_memory("likes coffee", id="mem_x")])
    assert [item.memory for item in await memories.recall("user_1", "likes")] == [first]


async def test_an_id_of_another_user_is_another_memory(memories, make_memory):
    mine = make_memory("likes tea", id="mem_x", user_id="user_1")
    yours = make_memory("likes coffee", id="mem_x", user_id="user_2")
    theirs = make_memory("likes milk", id="mem_x", user_id="user_3")
    await memories.remember(mine)
    await remember_all(memories, [yours, theirs])
    for memory in (mine, yours, theirs):
        assert [item.memory for item in await memories.recall(memory.user_id, "likes")] == [memory]


async def test_a_user_whose_memories_are_all_far_still_finds_them(memories, make_memory):
    """The user is looked at before the distance, or nearer memories of others would crowd theirs out."""
    await remember_all(memories, [make_memory("the dog is called Rex", user_id="user_2") for _ in range(60)])
    mine = make_memory("Lisbon lies by the sea", user_id="user_1")
    await memories.remember(mine)
    assert [item.memory for item in await memories.recall("user_1", "the dog is called Rex", limit=1)] == [mine]


@SLOW
@given(owner=USER_IDS, other=USER_IDS)
async def test_nobody_finds_what_another_one_stored(memories, make_memory, owner, other):
    memory = make_memory("the secret is 42", user_id=owner)
    await memories.remember(memory)
    found = await memories.recall(owner, "the secret", limit=100)
    assert memory in [item.memory for item in found]
    assert {item.memory.user_id for item in found} == {owner}
    assert {item.memory.user_id for item in await memories.recall(other, "the secret", limit=100)} <= {other}


@SLOW
@given(text=st.text(max_size=200), query=st.text(max_size=50))
async def test_any_text_is_kept_whole(memories, make_memory, text, query):
    memory = make_memory(text, user_id=f"user of {text}")
    await memories.remember(memory)
    found = await memories.recall(memory.user_id, query, limit=100)
    assert memory in [item.memory for item in found]


async def test_a_long_text_is_kept_whole(memories, make_memory):
    memory = make_memory("Bees make honey. " * 2_000 + "The end.")
    await memories.remember(memory)
    [found] = await memories.recall("user_1", "bees")
    assert found.memory == memory


async def test_concurrent_memories_are_all_found(memories, make_memory):
    stored = [make_memory(f"fact {number}", user_id=f"user_{number % 4}") for number in range(200)]
    await remember_all(memories, stored)
    found = [item.memory for user in range(4) for item in await memories.recall(f"user_{user}", "fact", limit=100)]
    assert sorted(found, key=lambda memory: memory.created_at) == stored


async def remember_all(memories, many):
    async with asyncio.TaskGroup() as group:
        for memory in many:
            group.create_task(memories.remember(memory))
