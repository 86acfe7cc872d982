"""What `LanceMemories` promises beyond the contract: group commits, compaction, deadlines, restarts."""

import asyncio
from pathlib import Path

import lancedb
import pytest
from structlog.testing import capture_logs

from actors.core.errors import InvalidInput, MemoryUnavailable
from actors.memory.lance import SMALL_FILES, LanceMemories
from actors.memory.lance_rows import table_name


@pytest.fixture
async def store(uri, words):
    store = LanceMemories(uri, words, timeout_s=30)
    yield store
    await store.aclose()


class Gate:
    """An embedder that waits until it is let go on, and can be made to fail."""

    def __init__(self, inner):
        self.name, self.dimensions, self._inner = inner.name, inner.dimensions, inner
        self.entered, self.open, self.failure = asyncio.Event(), asyncio.Event(), None

    async def embed(self, texts, *, kind):
        self.entered.set()
        await self.open.wait()
        if self.failure:
            raise self.failure
        return await self._inner.embed(texts, kind=kind)


@pytest.fixture
async def gate(words):
    return Gate(words)


@pytest.fixture
async def gated(uri, gate):
    store = LanceMemories(uri, gate, timeout_s=30)
    yield store
    await store.aclose()


async def version(uri, embedder):
    with await lancedb.connect_async(uri) as connection, await connection.open_table(table_name(embedder)) as table:
        return await table.version()


async def texts_of(store, user_id="user_1"):
    return sorted(item.memory.text for item in await store.recall(user_id, "fact", limit=100))


async def test_concurrent_memories_share_commits(store, uri, words, make_memory):
    await store.recall("user_1", "nothing yet")
    before = await version(uri, words)
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(store.remember(make_memory(f"fact {number}", user_id=f"user_{number % 2}")))
    assert len(await texts_of(store, "user_0")) + len(await texts_of(store, "user_1")) == 200
    assert await version(uri, words) - before <= 6


async def test_each_remember_returns_after_its_own_commit(gated, gate, make_memory):
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(gated.remember(make_memory("fact 1")))
        await gate.entered.wait()
        assert not task.done()
        gate.open.set()
        await task
        assert await texts_of(gated) == ["fact 1"]


async def test_memories_survive_a_reopening(store, uri, words, make_memory):
    memory = make_memory("fact 1")
    await store.remember(memory)
    await store.aclose()
    reopened = LanceMemories(uri, words)
    assert [item.memory for item in await reopened.recall("user_1", "fact")] == [memory]
    await reopened.remember(memory)
    assert await texts_of(reopened) == ["fact 1"]
    await reopened.aclose()


async def test_small_files_do_not_pile_up(store, uri, words, make_memory):
    commits = SMALL_FILES + 20
    for number in range(commits):
        await store.remember(make_memory(f"fact {number:03}"))
    with await lancedb.connect_async(uri) as connection, await connection.open_table(table_name(words)) as table:
        stats = await table.stats()
        indexes = {column for index in await table.list_indices() for column in index.columns}
    assert stats["fragment_stats"]["num_fragments"] < SMALL_FILES
    assert indexes == {"user_id", "id"}
    assert stats["num_rows"] == commits
    # What came after the compaction is in no index yet, and is found and recognised all the same.
    found = await texts_of(store)
    assert found == [f"fact {number:03}" for number in range(commits)]
    await store.remember(make_memory("another", id="mem_1"))
    assert await texts_of(store) == found


async def test_a_restart_does_not_forget_to_compact(uri, words, make_memory):
    for number in range(SMALL_FILES // 8 + 1):
        store = LanceMemories(uri, words)
        for part in range(8):
            await store.remember(make_memory(f"fact {number} {part}"))
        await store.aclose()
    store = LanceMemories(uri, words)
    for part in range(16):
        await store.remember(make_memory(f"last fact {part}"))
    await store.aclose()
    with await lancedb.connect_async(uri) as connection, await connection.open_table(table_name(words)) as table:
        assert (await table.stats())["fragment_stats"]["num_fragments"] < 16


async def test_a_failed_compaction_fails_no_remember(store, make_memory, monkeypatch):
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no space left")

    for number in range(15):
        await store.remember(make_memory(f"fact {number}"))
    monkeypatch.setattr(lancedb.table.AsyncTable, "stats", broken)
    with capture_logs() as logs:
        await store.remember(make_memory("fact 15"))
    assert [entry["event"] for entry in logs] == ["memory.compaction_failed"]
    assert "no space left" in logs[0]["reason"]
    assert len(await texts_of(store)) == 16


async def test_a_cancelled_writer_takes_nobody_with_it(gated, gate, make_memory):
    """The first one commits for all; when it is cancelled, the next one takes its place."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        first = group.create_task(gated.remember(make_memory("fact first")))
        others = [group.create_task(gated.remember(make_memory(f"fact {number}"))) for number in range(5)]
        await gate.entered.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.open.set()
        for task in others:
            await task
    assert await texts_of(gated) == [f"fact {number}" for number in range(5)]


async def test_a_failed_commit_is_told_and_the_next_one_works(gated, gate, make_memory):
    gate.open.set()
    gate.failure = RuntimeError("the disk is full\nat src/writer.rs:12")
    with pytest.raises(MemoryUnavailable, match=r"Could not store the memory: the disk is full$"):
        await gated.remember(make_memory("fact 1"))
    gate.failure = None
    await gated.remember(make_memory("fact 2"))
    assert await texts_of(gated) == ["fact 2"]


async def test_both_calls_keep_their_deadline(uri, gate, make_memory):
    store = LanceMemories(uri, gate, timeout_s=0.2)
    with pytest.raises(MemoryUnavailable, match=r"Could not store the memory within 0\.2 s"):
        await store.remember(make_memory("fact"))
    with pytest.raises(MemoryUnavailable, match=r"Could not search the memories within 0\.2 s"):
        await store.recall("user_1", "fact")
    gate.open.set()
    assert await store.recall("user_1", "fact") == ()
    await store.aclose()


async def test_a_place_that_cannot_be_opened_is_unavailable(tmp_path, words, make_memory):
    (tmp_path / "file").write_text("not a folder")
    store = LanceMemories(str(tmp_path / "file"), words)
    with pytest.raises(MemoryUnavailable):
        await store.remember(make_memory("fact"))
    with pytest.raises(MemoryUnavailable):
        await store.recall("user_1", "fact")
    await store.aclose()


async def test_a_text_that_cannot_be_stored_is_refused_before_it_harms_others(store, make_memory):
    with pytest.raises(InvalidInput):
        await store.remember(make_memory("half \ud800"))
    await store.remember(make_memory("fact"))
    assert await texts_of(store) == ["fact"]


async def test_embedders_do_not_meet(store, uri, words, make_memory):
    await store.remember(make_memory("fact of the first"))
    second = LanceMemories(uri, type(words)("other words"))
    assert await second.recall("user_1", "fact") == ()
    await second.remember(make_memory("fact of the second"))
    assert await texts_of(second) == ["fact of the second"]
    assert await texts_of(store) == ["fact of the first"]
    await second.aclose()


async def test_two_writers_lose_nothing(store, uri, words, make_memory):
    second = LanceMemories(uri, words, timeout_s=30)
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task((store, second)[number % 2].remember(make_memory(f"fact {number:02}")))
    await second.aclose()
    fresh = LanceMemories(uri, words)
    assert await texts_of(fresh) == [f"fact {number:02}" for number in range(20)]
    await fresh.aclose()


async def test_nothing_is_written_before_the_first_call(uri, words):
    store = LanceMemories(uri, words)
    await store.aclose()
    assert not await asyncio.to_thread(Path(uri).exists)
