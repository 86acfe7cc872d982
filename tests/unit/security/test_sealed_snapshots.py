"""Numbered snapshots: the newest lease's end counts, whoever comes late, and nothing outlives its session."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sandbox.snapshots import Snapshot, SnapshotDamaged
from actors.security import sealed_snapshots
from actors.security.cipher import ClearText
from actors.security.sealed_snapshots import SealedSnapshots
from actors.store.obstore_objects import open_objects
from actors.testing.clock import FakeClock


class Sealing:
    """A cipher for tests: it hides the text, and knows what it sealed for which owner and place."""

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes:
        return hashlib.sha256(f"{owner} {place}".encode() + data).digest() + bytes(byte ^ 0x5A for byte in data)

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:
        clear = bytes(byte ^ 0x5A for byte in data[32:])
        if data != self.seal(clear, owner=owner, place=place):
            raise ValueError("not sealed for this place")
        return clear


@pytest.fixture
def objects():
    return open_objects("memory://")


@pytest.fixture
def snapshots(objects):
    return SealedSnapshots(objects, Sealing(), clock=FakeClock())


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def save(snapshots: SealedSnapshots, number: int, *chunks: bytes) -> int:
    return await snapshots.save("sess_a", number, pieces(*chunks), within_s=10)


async def load(snapshots: SealedSnapshots, number: int) -> bytes:
    return b"".join([chunk async for chunk in snapshots.load("sess_a", number)])


async def test_what_a_lease_left_is_found_by_the_next_one(snapshots, objects):
    first = await snapshots.claim("sess_a")
    assert (first.number, first.newest, first.unsaved) == (1, None, False)
    await save(snapshots, 1, b"one", b"two" * 1000)
    second = await snapshots.claim("sess_a")
    assert (second.number, second.newest, second.unsaved) == (2, Snapshot(1), False)
    assert await load(snapshots, 1) == b"one" + b"two" * 1000
    assert (await snapshots.claim("sess_b")).newest is None


async def test_what_is_stored_is_sealed(snapshots, objects):
    await snapshots.claim("sess_a")
    await save(snapshots, 1, b"a secret of the user")
    await snapshots.lose("sess_a", 1, "a secret of the user")
    stored = [await objects.get(info.key) for info in await objects.list("workspaces")]
    assert stored
    assert not any(b"secret" in data for data in stored)


async def test_a_late_save_does_not_hide_a_newer_one(snapshots):
    for _ in range(2):
        await snapshots.claim("sess_a")
    await save(snapshots, 2, b"new")
    await save(snapshots, 1, b"old")
    assert (await snapshots.claim("sess_a")).newest == Snapshot(2)
    assert await load(snapshots, 2) == b"new"


async def test_a_lease_that_left_nothing_is_known(snapshots):
    await snapshots.claim("sess_a")
    assert (await snapshots.claim("sess_a")).unsaved
    await save(snapshots, 2, b"x")
    assert not (await snapshots.claim("sess_a")).unsaved
    fourth = await snapshots.claim("sess_a")
    assert (fourth.newest, fourth.unsaved) == (Snapshot(2), True)


async def test_what_was_lost_says_why_and_is_newer_than_what_was_kept(snapshots):
    await snapshots.claim("sess_a")
    await save(snapshots, 1, b"x")
    await snapshots.claim("sess_a")
    await snapshots.lose("sess_a", 2, "it was too large")
    assert (await snapshots.claim("sess_a")).newest == Snapshot(2, "it was too large")


async def test_only_what_counts_is_stored(snapshots, objects):
    for number in range(1, 4):
        await snapshots.claim("sess_a")
        await snapshots.announce("sess_a", number)
        await save(snapshots, number, b"x")
    kept = [info.key.rpartition("/")[2] for info in await objects.list("workspaces/sess_a")]
    assert kept == ["0000000003.lease", "0000000003.saved"]


async def test_numbers_are_taken_once(objects):
    several = [SealedSnapshots(objects, ClearText(), clock=FakeClock()) for _ in range(8)]
    async with asyncio.TaskGroup() as group:
        claims = [group.create_task(one.claim("sess_a")) for one in several]
    assert sorted(task.result().number for task in claims) == list(range(1, 9))


async def test_a_save_that_is_under_way_elsewhere_is_waited_for(objects):
    clock = FakeClock()
    here, there = (SealedSnapshots(objects, ClearText(), clock=clock) for _ in range(2))
    await there.claim("sess_a")
    await there.announce("sess_a", 1)
    claiming = asyncio.create_task(here.claim("sess_a"))
    await clock.sleeping()
    await save(there, 1, b"just in time")
    clock.advance(1)
    claim = await asyncio.wait_for(claiming, 5)
    assert (claim.number, claim.newest, claim.unsaved) == (2, Snapshot(1), False)


async def test_a_save_that_never_ends_is_not_waited_for_forever(objects):
    clock = FakeClock()
    snapshots = SealedSnapshots(objects, ClearText(), clock=clock)
    await snapshots.claim("sess_a")
    await snapshots.announce("sess_a", 1)
    claiming = asyncio.create_task(snapshots.claim("sess_a"))
    await clock.sleeping()
    clock.advance(sealed_snapshots.SAVING_S)
    assert (await asyncio.wait_for(claiming, 5)).unsaved


@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_nothing_stays_of_a_session_that_is_forgotten(snapshots, objects, moment):
    await snapshots.claim("sess_a")
    await snapshots.announce("sess_a", 1)
    if moment == "before":
        await snapshots.forget("sess_a")

    async def chunks():
        yield b"x"
        if moment == "during":
            await snapshots.forget("sess_a")
        yield b"y"

    await snapshots.save("sess_a", 1, chunks(), within_s=10)
    if moment == "after":
        await snapshots.forget("sess_a")
    assert await objects.list("workspaces") == ()


async def test_forgetting_and_saving_in_any_order_leaves_nothing():
    """Each step of the one may come between any two of the other: the store is asked in every possible order."""
    steps = set()
    for order in itertools.product((0, 1), repeat=9):
        objects = Stepwise(open_objects("memory://"))
        snapshots = SealedSnapshots(objects, ClearText(), clock=FakeClock())
        objects.free = True
        await snapshots.claim("sess_a")
        await snapshots.announce("sess_a", 1)
        objects.free = False
        saving = asyncio.create_task(save(snapshots, 1, b"x"))
        forgetting = asyncio.create_task(snapshots.forget("sess_a"))
        steps.add(await objects.interleave([saving, forgetting], order))
        assert await objects.inner.list("workspaces") == (), order
    assert len(steps) > 20


class Stepwise:
    """An object store of which each call waits until the test lets it go on."""

    def __init__(self, inner):
        self.inner = inner
        self.free = False
        self.waiting: dict[asyncio.Task[object], asyncio.Event] = {}
        self.log: list[str] = []

    async def _turn(self, what):
        if not self.free:
            task = asyncio.current_task()
            assert task is not None
            self.waiting[task] = gate = asyncio.Event()
            await gate.wait()
            self.log.append(f"{task.get_name()} {what}")

    async def put(self, key, data, **options):
        await self._turn("put")
        return await self.inner.put(key, data, **options)

    async def upload(self, key, chunks, *, within_s):
        await self._turn("upload")
        return await self.inner.upload(key, chunks, within_s=within_s)

    async def get(self, key):
        await self._turn("get")
        return await self.inner.get(key)

    async def delete(self, *keys):
        for key in keys:
            await self._turn("delete")
            await self.inner.delete(key)

    async def list(self, prefix):
        await self._turn("list")
        return await self.inner.list(prefix)

    async def interleave(self, tasks, order):
        for number, task in enumerate(tasks):
            task.set_name(str(number))
        async with asyncio.timeout(20):
            for turn in itertools.chain(order, itertools.cycle((0, 1))):
                while not all(task.done() or task in self.waiting for task in tasks):  # noqa: ASYNC110  obstore's own threads
                    await asyncio.sleep(0.0001)
                running = [task for task in tasks if not task.done()]
                if not running:
                    return tuple(self.log)
                chosen = tasks[turn] if not tasks[turn].done() else running[0]
                self.waiting.pop(chosen).set()
        return tuple(self.log)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["claim", "save", "lose"]), st.integers(0, 5)), max_size=25))
def test_the_end_of_the_newest_lease_that_told_of_it_counts(actions):
    async def run():
        snapshots = SealedSnapshots(open_objects("memory://"), Sealing(), clock=FakeClock())
        given: list[int] = []
        ends: dict[int, str] = {}
        for action, which in actions:
            if action == "claim" or not given:
                claim = await snapshots.claim("sess_a")
                assert claim.number > max(given, default=0)
                given.append(claim.number)
                if ends:
                    assert claim.newest is not None
                    assert claim.newest.number == max(ends)
                else:
                    assert claim.newest is None
                continue
            number = given[which % len(given)]
            if ends.get(number):
                continue
            if action == "save":
                await save(snapshots, number, b"%d" % number)
            else:
                await snapshots.lose("sess_a", number, "gone")
            ends[number] = action
            newest = await snapshots.newest("sess_a")
            assert newest == Snapshot(max(ends), None if ends[max(ends)] == "save" else "gone")
            if newest.lost is None:
                assert await load(snapshots, newest.number) == b"%d" % newest.number

    asyncio.run(run())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="cut"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda data: data[:10] + bytes([data[10] ^ 1]) + data[11:], id="changed"),
        pytest.param(lambda data: data[40:80] + data[:40] + data[80:], id="moved"),
        pytest.param(lambda data: data[40:], id="without its first chunk"),
        pytest.param(lambda data: b"\x7f\xff\xff\xff" + data, id="a chunk without end"),
    ],
)
async def test_what_was_tampered_with_is_not_taken(snapshots, objects, damage):
    await snapshots.claim("sess_a")
    await save(snapshots, 1, b"aaaa", b"bbbb")  # sealed, each is 40 bytes with its length
    key = "workspaces/sess_a/0000000001.saved"
    sealed = await objects.get(key)
    assert sealed is not None
    await objects.put(key, damage(sealed))
    with pytest.raises(SnapshotDamaged):
        await load(snapshots, 1)


async def test_what_is_not_there_any_more_is_damaged(snapshots):
    with pytest.raises(SnapshotDamaged):
        await load(snapshots, 7)


async def test_a_snapshot_of_another_session_is_not_taken(snapshots, objects):
    await snapshots.claim("sess_a")
    await save(snapshots, 1, b"x")
    sealed = await objects.get("workspaces/sess_a/0000000001.saved")
    await objects.put("workspaces/sess_b/0000000001.saved", sealed)
    with pytest.raises(SnapshotDamaged):
        assert [chunk async for chunk in snapshots.load("sess_b", 1)]
