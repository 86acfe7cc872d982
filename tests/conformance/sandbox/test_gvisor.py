"""What only gVisor's sandboxes promise: their kernel, their processes here, their end, and what a `runsc` must be."""

import asyncio
import os
import platform
import signal
import sys

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox import gvisor_bundle, gvisor_runsc, owners
from actors.sandbox.base import Level, Limits
from actors.sandbox.cgroups import Surroundings, find_control_groups
from actors.sandbox.gvisor import GvisorBackend
from actors.sandbox.gvisor_bundle import Bundle

# Runs as a program of its own: makes a sandbox, says so, and never ends it.
_HOST = """
import asyncio, sys
from pathlib import Path
from actors.sandbox.base import Limits
from actors.sandbox.gvisor import GvisorBackend

async def main():
    sandbox = await GvisorBackend(Path(sys.argv[1])).create(Limits())
    await sandbox.shell(sys.argv[2], timeout_s=300, on_output=lambda text: print(text, end="", flush=True))

asyncio.run(main())
"""


@pytest.fixture
async def backend(cache):
    made = GvisorBackend(cache)
    yield made
    await made.aclose()


@pytest.fixture
def bundles(cache):
    return lambda: sorted((cache / "gvisor").glob("*/"))


@pytest.fixture
def groups():
    """The control groups that a process has made for its sandboxes, in every controller."""
    found = find_control_groups(Surroundings.of_this_process())
    assert set(found.places) == {"memory", "pids", "cpu"}
    places = {*found.places.values(), found.freezer}
    return lambda pid: [folder for place in places if place for folder in place.glob(f"*.{pid}.*-*/")]


@pytest.fixture
def runsc(monkeypatch, tmp_path):
    """Puts a script in the place of `runsc`; None takes it away."""
    monkeypatch.setattr(gvisor_runsc, "_PATH", str(tmp_path))
    monkeypatch.setattr(gvisor_runsc, "_chosen", {})
    monkeypatch.setattr(gvisor_runsc, "_TRIAL_S", 1.0)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)

    def be(script):
        if script is not None:
            (tmp_path / "runsc").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "runsc").chmod(0o755)

    return be


async def test_it_is_another_kernel(sandbox):
    result = await sandbox.shell("uname -r", timeout_s=10)

    assert result.verdict == "ok"
    assert result.output.strip() != platform.release()


async def test_the_probe_names_domains_that_cannot_be_reached(cache):
    backend = GvisorBackend(cache, domains=("example.org",))
    capability = await backend.probe()

    assert (capability.level, capability.egress) == (Level.GVISOR, ())
    assert "a way out to the allowed domains" in [gap.what for gap in capability.missing]
    await backend.aclose()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
async def test_what_was_being_made_when_the_backend_was_closed_leaves_nothing(cache, limits, bundles, groups, steps):
    backend = GvisorBackend(cache)
    await backend.build()
    making = asyncio.create_task(backend.create(limits))
    for _ in range(steps):
        await asyncio.sleep(0)
    making.cancel()
    await asyncio.wait([making])
    await backend.aclose()

    assert (bundles(), groups(os.getpid())) == ([], [])


async def test_no_process_of_it_has_rights_here(backend, limits, bundles, groups, processes, host_user_of):
    sandbox = await backend.create(limits)
    await sandbox.shell("true", timeout_s=10)
    [folder] = bundles()
    entrances = [group / "cgroup.procs" for group in groups(os.getpid())]
    pids = {int(pid) for entrance in entrances for pid in entrance.read_text().split()}

    assert len(entrances) >= 3
    assert set(Bundle(folder).processes()) < pids
    users = {host_user_of(pid) for pid in pids}
    assert len(users) == 1
    assert users.pop() >= 200_000 if os.geteuid() == 0 else users == {os.geteuid()}
    kernel, _ = Bundle(folder).processes()
    assert kernel in processes("--network=none")
    await sandbox.destroy()


async def test_destroy_leaves_nothing(backend, limits, bundles, groups, processes, marker):
    sandbox = await backend.create(limits)
    [folder] = bundles()
    await sandbox.shell(f"{marker} & echo on", timeout_s=10)

    await sandbox.destroy()

    assert bundles() == []
    assert groups(os.getpid()) == []
    assert processes(str(folder)) == []


async def test_death_of_the_host_process_ends_its_sandboxes(
    cache, processes, eventually, bundles, groups, marker, backend
):
    await backend.build()
    command = [sys.executable, "-c", _HOST, str(cache), f"setsid {marker} & echo on; {marker}"]
    host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        assert await host.stdout.readline() == b"on\n"
    [folder] = bundles()
    assert processes(str(folder))
    assert groups(host.pid)

    host.send_signal(signal.SIGKILL)
    await host.wait()

    await eventually(lambda: not processes(str(folder)))
    # Its folder and its group stay until somebody looks again, who leaves alone what others hold.
    second = GvisorBackend(cache)
    living = await backend.create(Limits())
    await second.build()
    assert folder not in bundles()
    assert groups(host.pid) == []
    assert (await living.shell("echo alive", timeout_s=10)).output == "alive\n"
    await second.aclose()


async def test_a_frozen_agent_does_not_outlive_its_host(cache, processes, eventually, bundles, marker, backend):
    """Nothing inside has to notice that the host is gone: what holds it is ended from outside."""
    await backend.build()
    command = [sys.executable, "-c", _HOST, str(cache), f"echo on; {marker}"]
    host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        assert await host.stdout.readline() == b"on\n"
    [folder] = bundles()
    for pid in Bundle(folder).processes():
        os.kill(pid, signal.SIGSTOP)

    host.send_signal(signal.SIGKILL)
    await host.wait()

    await eventually(lambda: not processes(str(folder)))
    gvisor_bundle.remove_leftovers(cache)
    assert bundles() == []


async def test_leftovers_of_the_dead_are_removed(cache, bundles):
    backend = GvisorBackend(cache)
    await backend.build()
    left, foreign = cache / "gvisor" / "left", cache / "gvisor" / "foreign"
    for folder, owner in ((left, owners.this_process().rpartition(":")[0] + ":1"), (foreign, "nobody knows")):
        folder.mkdir()
        (folder / "owner").write_text(owner)
    second = GvisorBackend(cache)

    await second.build()

    assert bundles() == [foreign]
    foreign.joinpath("owner").unlink()
    foreign.rmdir()
    await backend.aclose()
    await second.aclose()


async def test_memory_that_was_given_back_can_be_had_again(backend, limits):
    sandbox = await backend.create(limits)
    for _ in range(2):
        result = await sandbox.python(f"b = bytearray({limits.memory_bytes * 2})", timeout_s=60)
        assert (result.verdict, result.exit_code) == ("oom", 137)
    half = await sandbox.python(f"print(len(bytearray({limits.memory_bytes // 2})))", timeout_s=60)

    assert (half.verdict, half.output) == ("ok", f"{limits.memory_bytes // 2}\n")
    await sandbox.destroy()


async def test_machine_without_runsc_says_how_to_get_it(cache, runsc):
    runsc(None)
    backend = GvisorBackend(cache)
    capability = await backend.probe()

    assert capability.level is Level.NONE
    assert "runsc" in capability.missing[0].what
    assert "apt-get install runsc" in capability.missing[0].fix
    with pytest.raises(SandboxUnavailable, match="runsc"):
        await backend.create(Limits())
    await backend.aclose()


@pytest.mark.parametrize(
    ("script", "what", "fix"),
    [
        ("echo 'flag provided but not defined: -rootless' >&2; exit 128", "a newer runsc", "apt-get install runsc"),
        ("echo 'fork/exec /proc/self/exe: operation not permitted' >&2; exit 1", "user namespaces", "max_user_names"),
        ("echo 'unknown platform: any' >&2; exit 128", "a platform on which gVisor works", "ptrace: unknown platform"),
        ("exec sleep 100", "a platform on which gVisor works", "no end within 1 s"),
    ],
)
async def test_runsc_that_does_not_work_here_is_diagnosed(cache, runsc, bundles, script, what, fix):
    runsc(script)
    backend = GvisorBackend(cache)
    async with asyncio.timeout(60):
        capability = await backend.probe()

    assert capability.level is Level.NONE
    assert what in capability.missing[0].what
    assert fix in capability.missing[0].fix
    assert bundles() == []
    await backend.aclose()


async def test_runsc_that_isolates_nothing_is_refused(cache, runsc):
    """Stands in for one too old, or none at all: it runs the agent as it is."""
    runsc('for last; do :; done; case "$*" in *--bundle=*) exec true;; esac')
    backend = GvisorBackend(cache)
    capability = await backend.probe()

    assert capability.level is Level.NONE
    assert capability.missing[0].fix
    await backend.aclose()


async def test_workspace_that_does_not_fit_in_memory_is_refused(backend):
    with pytest.raises(SandboxUnavailable, match="more memory or less workspace"):
        await backend.create(Limits(memory_bytes=64 << 20, workspace_bytes=64 << 20))
