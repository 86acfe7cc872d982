"""Sandboxes of sessions: one each, never reused, replaced when lost, gone when released."""

import asyncio
import contextlib
import os
import secrets
import signal
from pathlib import Path

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import CopyResult, WorkspaceError


async def test_sessions_never_see_each_others_marker(host):
    await host.shell("one", "echo marker-one | tee /workspace/m /tmp/m /dev/shm/m", timeout_s=10)
    for session in ("two", "three"):
        seen = await host.shell(session, "cat /workspace/m /tmp/m /dev/shm/m", timeout_s=10)
        assert "marker-one" not in seen.output
    await host.release("one")

    again = await host.shell("one", "cat /workspace/m /tmp/m /dev/shm/m", timeout_s=10)

    assert "marker-one" not in again.output


async def test_session_keeps_its_sandbox(host):
    await host.write("s", "note", b"kept")
    assert (await host.shell("s", "cat note", timeout_s=10)).output == "kept"
    assert (await host.python("s", "print(open('note').read())", timeout_s=10)).output == "kept\n"
    assert (await host.status()).leased == 1


async def test_lost_sandbox_is_said_and_replaced(host, processes, agent_of, eventually, marker):
    """Something outside, such as the kernel when the machine is out of memory, ends the sandbox."""
    began = asyncio.Event()
    await host.write("s", "note", b"kept")
    running = asyncio.create_task(
        host.shell("s", f"echo on; exec {marker}", timeout_s=60, on_output=lambda _: began.set())
    )
    async with asyncio.timeout(10):
        await began.wait()
    # In one look: while the shell becomes the program it has no command line.
    [command] = await eventually(lambda: processes(marker))

    os.kill(agent_of(command), signal.SIGKILL)
    lost = await running
    after = await host.shell("s", "ls; echo alive", timeout_s=10)

    assert (lost.verdict, lost.exit_code, lost.output) == ("sandbox_lost", None, "on\n")
    assert processes(marker) == []
    assert (after.verdict, after.output) == ("ok", "alive\n")


async def test_sandbox_lost_between_calls_is_said_too(host, processes, agent_of, eventually, marker):
    running = asyncio.create_task(host.shell("s", f"exec {marker}", timeout_s=60))
    agent = agent_of((await eventually(lambda: processes(marker)))[0])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    os.kill(agent, signal.SIGKILL)
    with pytest.raises(SandboxUnavailable, match="lost"):
        await host.list("s")

    assert (await host.shell("s", "echo alive", timeout_s=10)).output == "alive\n"


async def test_release_while_a_command_runs(host, processes, eventually, marker):
    running = asyncio.create_task(host.shell("s", marker, timeout_s=60))
    await eventually(lambda: processes(marker))

    await host.release("s")

    assert (await running).verdict == "cancelled"
    assert processes(marker) == []


async def test_after_an_interrupt_the_next_command_need_not_wait(host, processes, eventually, marker):
    """The caller of the first is dead and tells nothing: another speaks for the session."""
    await host.write("s", "note", b"kept")
    running = asyncio.create_task(host.shell("s", f"{marker} & {marker}", timeout_s=60))
    await eventually(lambda: len(processes(marker)) >= 2)

    await host.interrupt("s")

    assert processes(marker) == []
    assert (await running).verdict == "cancelled"
    after = await host.shell("s", "cat note", timeout_s=10)
    assert (after.verdict, after.output) == ("ok", "kept")
    assert after.wall_s < 5


async def test_close_ends_all(host, processes, eventually, marker):
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(host.shell(f"s{n}", marker, timeout_s=60)) for n in range(3)]
        await eventually(lambda: len(processes(marker)) >= 3)
        await host.aclose()

    assert {call.result().verdict for call in calls} == {"cancelled"}
    assert processes(marker) == []
    with pytest.raises(SandboxUnavailable):
        await host.shell("s0", "true", timeout_s=1)


async def test_creation_that_is_cancelled_leaves_nothing(backend, limits, cache, processes, eventually):
    await (await backend.create(limits)).destroy()  # whatever is made once is made
    for after_s in (0, 0.002, 0.01, 0.02, 0.03, 0.05):
        creating = asyncio.create_task(backend.create(limits))
        await asyncio.wait({creating}, timeout=after_s)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await creating).destroy()
    await eventually(lambda: not processes(str(cache)))


async def test_closed_backend_makes_nothing(backend, limits):
    await backend.aclose()
    with pytest.raises(SandboxUnavailable):
        await backend.create(limits)


async def test_a_workspace_is_copied_into_a_sandbox_of_its_own(host):
    await host.write("old", "notes/a.txt", b"one")
    await host.write("old", "b.bin", bytes(range(256)))

    copied = await host.copy("old", "new")

    assert copied == CopyResult(2, 259)
    assert (await host.read("new", "notes/a.txt", max_bytes=10)).data == b"one"
    await host.write("new", "b.bin", b"changed")
    assert (await host.read("old", "b.bin", max_bytes=300)).data == bytes(range(256))


async def test_nothing_is_copied_and_nothing_made_where_there_is_no_sandbox(host):
    assert await host.copy("nobody", "new") == CopyResult()
    assert not await host.holds("nobody")
    assert not await host.holds("new")


async def test_a_workspace_of_too_many_files_is_not_copied_in_part(host, monkeypatch):
    monkeypatch.setattr("actors.sandbox.host.COPIED_ENTRIES", 2)
    await host.shell("old", "touch a b c", timeout_s=10)

    with pytest.raises(WorkspaceError, match="more than 2"):
        await host.copy("old", "new")

    assert not await host.holds("new")


@pytest.fixture
def spent():
    """Processor time that a process of this host has spent, in ticks."""

    def read(pid: int) -> int:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return read


async def test_a_frozen_sandbox_uses_no_processor_and_goes_on_after(sandbox, processes, eventually, spent):
    spin = f"spin{secrets.randbelow(10**9)}"
    running = asyncio.create_task(sandbox.shell(f"exec python3 -c '{spin} = 1\nwhile True: pass'", timeout_s=60))
    words = f"python3 -c {spin}"
    await eventually(lambda: processes(words))
    pid = processes(words)[0]
    await eventually(lambda: spent(pid) > 2)

    await sandbox.pause()
    await sandbox.pause()
    before = spent(pid)
    await asyncio.wait({running}, timeout=0.5)
    assert spent(pid) == before

    await sandbox.resume()
    await sandbox.resume()
    await eventually(lambda: spent(pid) > before)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"


async def test_a_frozen_sandbox_can_be_destroyed(sandbox, processes, eventually, marker):
    running = asyncio.create_task(sandbox.shell(f"setsid {marker} & {marker}", timeout_s=60))
    await eventually(lambda: len(processes(marker)) >= 2)

    await sandbox.pause()
    await sandbox.destroy()

    assert processes(marker) == []
    assert (await running).verdict == "cancelled"


async def test_what_can_be_frozen_is_said(backend):
    assert "freeze" in (await backend.probe()).limits
