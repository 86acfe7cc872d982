"""Workspaces at the border of a lease: kept, restored, forgotten, or said to be lost. Two hosts are two machines that
share a store; their sandboxes are dictionaries."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable, StoreUnavailable
from actors.sandbox.base import CopyResult, SandboxSpec, WorkspaceError
from actors.sandbox.host import SandboxHost
from actors.sandbox.keeping import KeptWorkspaces
from actors.security.cipher import ClearText
from actors.security.sealed_snapshots import SealedSnapshots
from actors.security.sealing import AesGcm
from actors.store.obstore_objects import open_objects
from actors.testing.clock import FakeClock


class Store:
    """An object store that is away while a test says so."""

    def __init__(self):
        self.inner = open_objects("memory://")
        self.away = False

    def __getattr__(self, name):
        if self.away:
            raise StoreUnavailable("the store is away")
        return getattr(self.inner, name)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
async def machine(backend, clock, store):
    """Make a host; all of them share the store and the backend."""
    made = []

    def make(*, max_bytes=1000, cipher=None, **spec):
        snapshots = SealedSnapshots(store, cipher or ClearText(), clock=clock)
        keeping = KeptWorkspaces(snapshots, max_bytes=max_bytes, clock=clock)
        options = {"warm": 0, "idle_s": 100, "freeze_s": 0, "max_leased": 2, "wait_s": 0, **spec}
        host = SandboxHost(backend, SandboxSpec(**options), backend.capability, clock=clock, keeping=keeping)
        host.start()
        made.append(host)
        return host

    yield make
    store.away = False
    for host in made:
        await host.aclose()


@pytest.fixture
def idle(clock, until):
    """Let the session's lease end for idleness."""

    async def wait(host, sandbox):
        clock.advance(101)
        await until(lambda: sandbox.destroyed)
        await host.holds("a")  # which waits for the end of what is being ended

    return wait


async def keys(store):
    return [info.key for info in await store.inner.list("workspaces")]


@pytest.fixture
def eventually(store):
    """Wait until the store has an object of that name."""

    async def wait(name):
        async with asyncio.timeout(5):
            while not any(key.endswith(name) for key in await keys(store)):  # noqa: ASYNC110  as obstore has its own threads
                await asyncio.sleep(0.001)

    return wait


async def test_an_idle_sessions_workspace_is_in_its_next_sandbox(machine, backend, idle):
    host = machine()
    await host.write("a", "f", b"kept")
    await idle(host, backend.made[0])
    assert (await host.read("a", "f", max_bytes=9)).data == b"kept"
    assert len(backend.made) == 2
    assert (await host.shell("a", "x", timeout_s=1)).output == "sandbox 1"
    with pytest.raises(WorkspaceError):
        await host.read("b", "f", max_bytes=9)


async def test_a_drained_machines_workspaces_are_on_the_next_one(machine):
    first, second = machine(), machine()
    await first.write("a", "f", b"moved")
    await first.aclose()
    assert (await second.read("a", "f", max_bytes=9)).data == b"moved"


async def test_who_comes_while_it_is_saved_elsewhere_gets_it_whole(machine, backend, clock, eventually):
    first, second = machine(), machine()
    await first.write("a", "f", b"moved")
    backend.made[0].packing = asyncio.Event()
    closing = asyncio.create_task(first.aclose())
    await eventually("0000000001.saving")
    reading = asyncio.create_task(second.read("a", "f", max_bytes=9))
    await eventually("0000000002.lease")
    backend.made[0].packing.set()
    async with asyncio.timeout(5):
        while not reading.done():
            clock.advance(0.25)
            await asyncio.sleep(0.001)
        await closing
    assert (await reading).data == b"moved"


async def test_a_machine_that_was_cut_off_overwrites_nothing(machine, backend):
    cut_off, second = machine(), machine()
    await cut_off.write("a", "f", b"old")
    await second.write("a", "f", b"new")
    await second.aclose()
    await cut_off.aclose()
    third = machine()
    assert (await third.read("a", "f", max_bytes=9)).data == b"new"


async def test_what_is_too_large_is_not_kept_and_the_model_is_told_once(machine, backend, store, idle):
    host = machine(max_bytes=100)
    await host.write("a", "f", b"x" * 200)
    await idle(host, backend.made[0])
    other = machine()
    told = (await other.shell("a", "ls", timeout_s=1)).output
    assert told == "[The workspace is empty because it could not be kept: too large.]\nsandbox 1"
    assert (await other.shell("a", "ls", timeout_s=1)).output == "sandbox 1"


async def test_a_file_that_is_missing_for_that_reason_is_explained(machine, backend, idle):
    host = machine(max_bytes=100)
    await host.write("a", "f", b"x" * 200)
    await idle(host, backend.made[0])
    with pytest.raises(WorkspaceError, match=r"No such file \(The workspace is empty because"):
        await host.read("a", "f", max_bytes=9)


async def test_a_lost_sandbox_gives_back_what_was_kept_before_and_says_so(machine, backend, idle):
    host = machine()
    await host.write("a", "f", b"kept")
    await idle(host, backend.made[0])
    await host.write("a", "g", b"not kept")
    backend.made[1].lost = True
    with pytest.raises(SandboxUnavailable):
        await host.read("a", "g", max_bytes=9)
    assert "may be missing" in (await host.shell("a", "ls", timeout_s=1)).output
    assert (await host.read("a", "f", max_bytes=9)).data == b"kept"


async def test_a_store_that_is_away_keeps_the_sandbox(machine, backend, store, clock, idle):
    host = machine()
    await host.write("a", "f", b"kept")
    store.away = True
    clock.advance(101)
    await clock.sleeping()
    assert await host.holds("a")
    assert (await host.read("a", "f", max_bytes=9)).data == b"kept"
    assert not backend.made[0].destroyed
    store.away = False
    await idle(host, backend.made[0])
    assert (await host.read("a", "f", max_bytes=9)).data == b"kept"
    assert len(backend.made) == 2


async def test_while_the_store_is_away_nobody_gets_an_empty_workspace_in_its_place(machine, backend, store, idle):
    host = machine()
    await host.write("a", "f", b"kept")
    await idle(host, backend.made[0])
    store.away = True
    with pytest.raises(SandboxUnavailable, match="Try again later"):
        await host.read("a", "f", max_bytes=9)
    assert all(sandbox.destroyed for sandbox in backend.made)
    store.away = False
    assert (await host.read("a", "f", max_bytes=9)).data == b"kept"


async def test_a_machine_without_the_key_loses_nothing_that_was_kept(machine, backend, store, idle):
    old, new = bytes(32), bytes([1] * 32)
    with_key = machine(cipher=AesGcm((old,)))
    await with_key.write("a", "f", b"kept")
    await idle(with_key, backend.made[0])
    for cipher in (AesGcm((new,)), ClearText()):
        with pytest.raises(SandboxUnavailable, match="GREENROOM_OBJECT_KEYS_PATH"):
            await machine(cipher=cipher).read("a", "f", max_bytes=9)
    assert (await machine(cipher=AesGcm((new, old))).read("a", "f", max_bytes=9)).data == b"kept"


async def test_a_place_that_others_wait_for_is_not_held_for_a_store_that_is_away(machine, backend, store, clock, until):
    host = machine(max_leased=1, wait_s=50, spare_s=1)
    await host.write("a", "f", b"kept")
    store.away = True
    clock.advance(2)
    with pytest.raises(SandboxUnavailable, match="Try again later"):
        await host.shell("b", "x", timeout_s=1)  # it got the place, and nobody knows what it left before
    assert backend.made[0].destroyed
    store.away = False
    assert "is empty because" in (await host.shell("a", "x", timeout_s=1)).output


async def test_a_deleted_sessions_workspace_is_deleted(machine, backend, store, idle):
    host, other = machine(), machine()
    await host.write("a", "f", b"x")
    await idle(host, backend.made[0])
    assert await keys(store)
    await other.release("a")
    assert await keys(store) == []
    await host.write("a", "f", b"x")
    await host.release("a")
    assert await keys(store) == []


async def test_a_fork_finds_a_source_that_only_a_store_has(machine, backend, store, idle):
    host, other = machine(), machine()
    await host.write("a", "f", b"kept")
    await idle(host, backend.made[0])
    assert await other.copy("a", "fork") == CopyResult(1, 4)
    assert (await other.read("fork", "f", max_bytes=9)).data == b"kept"
    assert await other.copy("nobody", "another") == CopyResult()
    assert not await other.holds("another")


async def test_a_damaged_workspace_is_replaced_by_an_empty_one_that_says_so(machine, backend, store, idle):
    host = machine()
    await host.write("a", "f", b"kept")
    await idle(host, backend.made[0])
    saved = next(key for key in await keys(store) if key.endswith("saved"))
    await store.inner.put(saved, b"nonsense")
    with pytest.raises(SandboxUnavailable, match="could not be restored"):
        await host.shell("a", "ls", timeout_s=1)
    assert "is empty because it could not be restored" in (await host.shell("a", "ls", timeout_s=1)).output
