"""What every object store promises."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.store.objects import ObjectInfo, ObjectStore

MIB = 1024 * 1024


async def pieces(*chunks: bytes, failing: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if failing is not None:
        raise failing


async def test_what_was_put_is_got(store: ObjectStore) -> None:
    assert await store.put("a/b.c", b"bytes\0\xff") is True
    assert await store.get("a/b.c") == b"bytes\0\xff"
    assert await store.put("a/b.c", b"") is True
    assert await store.get("a/b.c") == b""


async def test_a_missing_object_is_nothing(store: ObjectStore) -> None:
    assert await store.get("no/such") is None
    assert [piece async for piece in store.stream("no/such")] == []
    assert await store.list("no") == ()


async def test_it_is_created_once(store: ObjectStore) -> None:
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(store.put("only/one", b"%d" % number, create=True)) for number in range(8)]
    won = [number for number, task in enumerate(tries) if task.result()]
    assert len(won) == 1
    assert await store.get("only/one") == b"%d" % won[0]
    assert await store.put("only/one", b"again") is True


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(store: ObjectStore) -> None:
    await store.put("a/1", b"x")
    await store.put("a/2", b"x")
    await store.delete("a/1", "a/2")
    await store.delete("a/1", "never/was")
    assert await store.get("a/1") is None
    assert await store.list("a") == ()
    assert await store.put("a/1", b"x", create=True) is True


async def test_a_folder_is_listed_and_nothing_beside_it(store: ObjectStore) -> None:
    for number, key in enumerate(["list/b", "list/a/deep/er", "list/c.d", "listed/x", "other", "li"]):
        await store.put(key, b"x" * number)
    assert await store.list("list") == (
        ObjectInfo("list/a/deep/er", 1),
        ObjectInfo("list/b", 0),
        ObjectInfo("list/c.d", 2),
    )


async def test_long_listings_are_whole(store: ObjectStore) -> None:
    keys = [f"many/{number:04d}" for number in range(120)]
    for key in keys:
        await store.put(key, b"")
    assert [info.key for info in await store.list("many")] == keys


async def test_a_large_object_goes_in_parts(store: ObjectStore) -> None:
    chunks = [bytes([number]) * (MIB - number) for number in range(20)]
    assert await store.upload("large", pieces(*chunks), within_s=60) == sum(map(len, chunks))
    assert b"".join([piece async for piece in store.stream("large")]) == b"".join(chunks)
    assert await store.get("large") == b"".join(chunks)


async def test_an_upload_may_be_small_or_empty(store: ObjectStore) -> None:
    assert await store.upload("small", pieces(b"a", b"", b"b"), within_s=60) == 2
    assert await store.get("small") == b"ab"
    assert await store.upload("empty", pieces(), within_s=60) == 0
    assert await store.get("empty") == b""


class Stopped(Exception):
    """Raised by what is uploaded."""


async def test_an_upload_that_fails_leaves_what_was_there(store: ObjectStore) -> None:
    await store.put("kept", b"before")
    error = Stopped("it broke")
    with pytest.raises(Stopped) as raised:
        await store.upload("kept", pieces(*[b"x" * MIB] * 20, failing=error), within_s=60)
    assert raised.value is error
    assert await store.get("kept") == b"before"
    with pytest.raises(Stopped):
        await store.upload("never", pieces(failing=error), within_s=60)
    assert await store.get("never") is None
    assert await store.list("never") == ()


async def test_an_upload_that_is_cancelled_leaves_what_was_there(store: ObjectStore) -> None:
    await store.put("kept", b"before")
    asked = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        asked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.upload("kept", endless(), within_s=60))
    await asyncio.wait_for(asked.wait(), 30)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    assert await store.get("kept") == b"before"


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "a b", "ä", "a\nb", "a" * 513])
async def test_a_key_that_some_store_could_not_hold_is_refused(store: ObjectStore, key: str) -> None:
    for call in (store.get(key), store.put(key, b""), store.delete(key), store.list(key)):
        with pytest.raises(ValueError, match="not a key"):
            await call
