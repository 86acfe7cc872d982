"""One suite for every sandbox backend. A machine without isolation fails here: nothing is ever skipped."""

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from actors.core.clock import SystemClock
from actors.sandbox.base import Limits, Sandbox, SandboxBackend, SandboxSpec
from actors.sandbox.bubblewrap import BubblewrapBackend
from actors.sandbox.docker import DockerBackend
from actors.sandbox.gvisor import GvisorBackend
from actors.sandbox.gvisor_bundle import Bundle
from actors.sandbox.host import SandboxHost, open_sandboxes
from actors.testing.dockerd import Dockerd

MIB = 1024 * 1024


@pytest.fixture(scope="session")
def cache() -> Iterator[Path]:
    """A folder for root filesystems that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="greenroom-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def limits() -> Limits:
    return Limits(
        memory_bytes=256 * MIB,
        cpus=0.5,
        pids=40,
        workspace_bytes=32 * MIB,
        file_bytes=24 * MIB,
        output_bytes=64 * 1024,
        open_files=256,
        command_s=60,
    )


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    daemon = Dockerd(tmp_path_factory.mktemp("dockerd"))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(params=["bubblewrap", "docker", "gvisor"])
async def backend(request: pytest.FixtureRequest, cache: Path) -> AsyncIterator[SandboxBackend]:
    made: SandboxBackend
    match request.param:
        case "docker":
            made = DockerBackend(cache, host=request.getfixturevalue("dockerd").host)
        case "gvisor":
            made = GvisorBackend(cache)
        case _:
            made = BubblewrapBackend(cache)
    yield made
    await made.aclose()


@pytest.fixture
async def sandbox(backend: SandboxBackend, limits: Limits) -> AsyncIterator[Sandbox]:
    made = await backend.create(limits)
    yield made
    await made.destroy()


@pytest.fixture
async def host(backend: SandboxBackend, limits: Limits) -> AsyncIterator[SandboxHost]:
    opened = await open_sandboxes(backend, SandboxSpec(limits, warm=1), clock=SystemClock())
    assert isinstance(opened, SandboxHost), await opened.status()
    yield opened
    await opened.aclose()


@pytest.fixture
def processes(cache: Path) -> Callable[[str], list[int]]:
    """Processes of this host, in sandboxes or not, with these words in their command line.

    This host sees nothing of what runs in gVisor. The process of gVisor's kernel stands in for each program there of
    the name that the words begin with.
    """

    def find(words: str) -> list[int]:
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                except OSError:
                    continue  # it ended
                if words.encode() in line:
                    found.append(int(folder.name))
        for folder in (cache / "gvisor").glob("*/"):
            found += _in_gvisor(Bundle(folder), words.split(maxsplit=1)[0])
        return found

    return find


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], "asyncio.Future[object]"]:
    """Wait until a condition holds, for 10 seconds at most; what it found then."""

    async def wait(condition: Callable[[], object]) -> object:
        async with asyncio.timeout(10):
            while not (found := condition()):  # noqa: ASYNC110  a process of the system sets no event
                await asyncio.sleep(0.01)
        return found

    return wait


@pytest.fixture
def marker() -> str:
    """A command that lasts longer than any test and that no other test, on this machine or elsewhere, runs."""
    return f"sleep {secrets.randbelow(10**6) + 10**6}.{os.getpid()}"


def _in_gvisor(bundle: Bundle, name: str) -> list[int]:
    try:
        kernel, _ = bundle.processes()
    except (OSError, ValueError):
        return []  # it is not there yet, or no more
    seen = subprocess.run(
        ["runsc", f"--root={bundle.state}", "ps", bundle.folder.name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,  # it may end meanwhile
    )
    return [kernel for line in seen.stdout.splitlines() if line.split()[-1] == name]


@pytest.fixture
def processor_s(cache: Path) -> Callable[[], float]:
    """Seconds of processor time that all of gVisor's processes have had which are there now."""

    def measure() -> float:
        groups: set[str] = set()
        for folder in (cache / "gvisor").glob("*/"):
            with contextlib.suppress(OSError, ValueError):  # it is not there yet, or no more
                groups.add(Path("/proc", str(Bundle(folder).processes()[0]), "cgroup").read_text())
        ticks = 0
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it ended
                if folder.name.isdigit() and (folder / "cgroup").read_text() in groups:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    ticks += sum(map(int, fields[11:15]))  # its own and its children's
        return ticks / os.sysconf("SC_CLK_TCK")

    return measure


@pytest.fixture
def agent_of() -> Callable[[int], int]:
    """The process with which the sandbox of a command ends: the command's parent, or gVisor's kernel itself."""

    def find(pid: int) -> int:
        if Path("/proc", str(pid), "cmdline").read_bytes().startswith(b"runsc-sandbox"):
            return pid
        return int(_status_of(pid)["PPid"])

    return find


def _status_of(pid: int) -> dict[str, str]:
    """What this host says of one of its processes."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def host_user_of() -> Callable[[int], int]:
    """The user, as this host numbers them, that a process runs as."""
    return lambda pid: int(_status_of(pid)["Uid"].split()[0])


@pytest.fixture
def core_pattern() -> Callable[[], str]:
    """The kernel setting that tells which program the host's root runs when something crashes."""
    return Path("/proc/sys/kernel/core_pattern").read_text
