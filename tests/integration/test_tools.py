"""Sandboxes and memories in their actors, reached from other processes."""

import asyncio
from contextlib import suppress

import psutil
import pytest
from ray.exceptions import RayError

from actors.core.clock import SystemClock
from actors.core.errors import MemoryUnavailable, SandboxUnavailable
from actors.memory.base import Memory
from actors.memory_handles import RemoteMemories
from actors.register import MEMORY, SANDBOX_PREFIX, end_actor, named_actors
from actors.sandbox.base import Level, WorkspaceError
from actors.sandbox_handles import RemoteSandboxes
from actors.start import start_actors


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected):
    with run_node({}) as address, connected(address):
        yield


@pytest.fixture(scope="module")
def fleet(make_fleet, cluster):
    return make_fleet("tools", sandbox_command_s=60)


@pytest.fixture(scope="module")
def sandboxes(fleet) -> RemoteSandboxes:
    return RemoteSandboxes("tools")


@pytest.fixture(scope="module")
def memories(fleet) -> RemoteMemories:
    return RemoteMemories("tools", timeout_s=60)


def remember(text: str, number: int) -> Memory:
    return Memory(f"mem_{number}", "user_1", text, "sess_1", f"turn_{number}", SystemClock().now())


def processes(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(marker in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


# Sandboxes ------------------------------------------------------------------------------------------


async def test_a_program_runs_in_isolation_and_its_output_comes_back(sandboxes):
    status = await sandboxes.status()
    result = await sandboxes.python("s1", "print(sum(range(10)))", timeout_s=30)

    assert status.capability.level is not Level.NONE
    assert (result.verdict, result.output) == ("ok", "45\n")


async def test_output_comes_while_the_program_runs(sandboxes):
    pieces: list[str] = []
    code = "import time\nfor n in range(4):\n    print(n, flush=True)\n    time.sleep(0.3)"

    result = await sandboxes.python("s1", code, timeout_s=30, on_output=pieces.append)

    assert result.output == "0\n1\n2\n3\n"
    assert len(pieces) > 1
    assert result.output.startswith("".join(pieces))


async def test_files_stay_with_their_session(sandboxes):
    await sandboxes.write("s2", "a/b.bin", b"\x00\xff")

    assert (await sandboxes.read("s2", "a/b.bin", max_bytes=10)).data == b"\x00\xff"
    assert [info.path for info in await sandboxes.list("s2")] == ["a", "a/b.bin"]
    assert await sandboxes.list("s3") == ()


async def test_what_cannot_be_done_with_a_file_crosses_as_itself(sandboxes):
    with pytest.raises(WorkspaceError, match=r"none\.txt"):
        await sandboxes.read("s2", "none.txt", max_bytes=10)


async def test_a_program_that_is_cancelled_is_killed(sandboxes, eventually):
    task = asyncio.create_task(sandboxes.shell("s4", "sleep 98765.25", timeout_s=60))

    async def running():
        return processes("98765.25")

    await eventually(running)
    task.cancel()
    await asyncio.wait([task])

    async def gone():
        return not processes("98765.25")

    await eventually(gone)


async def end_all(prefix) -> None:
    """End actors, and wait until they are gone: Ray only takes the order."""
    actors = named_actors(prefix, "tools").values()
    for actor in actors:
        end_actor(actor)
    for actor in actors:
        with suppress(RayError):
            async with asyncio.timeout(20):
                while True:
                    await actor.metrics.remote()


async def test_a_turn_that_is_cancelled_kills_its_program(fleet, eventually):
    call = {"tool_calls": [{"name": "run_shell", "arguments": {"command": "sleep 76543.25"}}]}
    turn = await fleet.start({"reply": call})

    async def running():
        return processes("76543.25")

    await eventually(running)
    result = await fleet.sessions.cancel(turn.session_id, "user_1", turn.turn_id)

    assert result.status == "cancelled"

    async def gone():
        return not processes("76543.25")

    await eventually(gone)


async def test_a_deleted_session_leaves_no_sandbox_wherever_it_was_last(fleet, sandboxes, eventually):
    call = {"tool_calls": [{"name": "write_file", "arguments": {"path": "a.txt", "content": "secret"}}]}
    session = (await fleet.say({"replies": [call, {"text": "Written."}]})).session_id
    before = await fleet.host_of(session)
    leased = (await sandboxes.status()).leased
    # It moves: its first host stops, and it goes on elsewhere, without need of its sandbox.
    await fleet.actors()[before].drain.remote(grace_s=1)
    end_actor(fleet.actors()[before])
    await fleet.say("Still there?", session)
    assert await fleet.host_of(session) != before

    await fleet.book.delete(session, "user_1")
    await fleet.sessions.forget(session)

    async def released():
        return (await sandboxes.status()).leased < leased

    await eventually(released)


async def test_sandboxes_come_back_with_a_new_actor(fleet, sandboxes):
    await sandboxes.python("s7", "print(1)", timeout_s=30)
    await end_all(SANDBOX_PREFIX)
    with pytest.raises(SandboxUnavailable):
        await sandboxes.python("s7", "print(1)", timeout_s=30)

    await start_actors(fleet.settings)

    again = await sandboxes.python("s7", "print(2)", timeout_s=60)
    assert again.output == "[The workspace is empty because its sandbox was lost before it was kept.]\n2\n"
    assert (await sandboxes.status()).capability.level is not Level.NONE


async def test_a_program_that_is_cancelled_before_it_started_is_never_run(fleet, eventually):
    """The cancel comes while the new actor still prepares its first sandbox."""
    await end_all(SANDBOX_PREFIX)
    await start_actors(fleet.settings)
    sandboxes = RemoteSandboxes("tools")
    tasks = [asyncio.create_task(sandboxes.shell(f"s{n}", "sleep 87654.25", timeout_s=60)) for n in range(4)]
    await asyncio.sleep(0)
    # This does not need a sandbox: when it answers, the calls before it have arrived.
    (actor,) = named_actors(SANDBOX_PREFIX, "tools").values()
    await actor.metrics.remote()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    # What was begun all the same has begun when a later call has ended.
    assert (await sandboxes.shell("s6", "echo done", timeout_s=30)).output == "done\n"

    async def gone():
        return not processes("87654.25")

    await eventually(gone)


async def test_a_status_that_was_asked_before_comes_back_with_a_new_actor(fleet):
    asked = RemoteSandboxes("tools")
    assert (await asked.status()).capability.level is not Level.NONE
    await end_all(SANDBOX_PREFIX)
    with pytest.raises(SandboxUnavailable):
        await asked.status()

    await start_actors(fleet.settings)

    assert (await asked.status()).capability.level is not Level.NONE


async def test_an_actor_that_was_ended_by_mistake_comes_back_without_anyone_asking(fleet, eventually):
    await end_all(SANDBOX_PREFIX)
    sandboxes = RemoteSandboxes("tools")

    async def back():
        try:
            return (await sandboxes.python("s8", "print(2)", timeout_s=60)).output == "2\n"
        except SandboxUnavailable:
            return False

    await eventually(back)


# Memories -------------------------------------------------------------------------------------------


async def test_what_is_remembered_is_found_by_its_meaning(memories):
    await memories.remember(remember("Ada's dog is called Rex.", 1))
    await memories.remember(remember("The quarterly report is due on Friday.", 2))

    found = await memories.recall("user_1", "What is the name of the pet?", limit=1)

    assert [item.memory.text for item in found] == ["Ada's dog is called Rex."]
    assert await memories.recall("user_2", "pet") == ()


async def test_memories_come_back_with_a_new_actor(fleet, memories):
    await memories.remember(remember("Ada lives in London.", 3))
    await end_all(MEMORY)
    with pytest.raises(MemoryUnavailable):
        await memories.recall("user_1", "Where does Ada live?")

    await start_actors(fleet.settings)

    found = await memories.recall("user_1", "Where does Ada live?", limit=1)
    assert [item.memory.text for item in found] == ["Ada lives in London."]


async def test_without_an_actor_the_reason_is_told():
    with pytest.raises(MemoryUnavailable, match="not running"):
        await RemoteMemories("nowhere", timeout_s=5).recall("user_1", "anything")
    with pytest.raises(SandboxUnavailable, match="no sandbox actor"):
        await RemoteSandboxes("nowhere").python("s", "print(1)", timeout_s=5)
