"""One suite for every sandbox backend. A machine without isolation fails here: nothing is ever skipped."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from actors.core.clock import SystemClock
from actors.sandbox.base import Limits, Sandbox, SandboxBackend, SandboxSpec
from actors.sandbox.bubblewrap import BubblewrapBackend
from actors.sandbox.docker import DockerBackend
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


@pytest.fixture(params=["bubblewrap", "docker"])
async def backend(request: pytest.FixtureRequest, cache: Path) -> AsyncIterator[SandboxBackend]:
    made: SandboxBackend
    match request.param:
        case "docker":
            made = DockerBackend(cache, host=request.getfixturevalue("dockerd").host)
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
def processes() -> Callable[[str], list[int]]:
    """Processes of this host, in sandboxes or not, with these words in their command line."""

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
        return found

    return find


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], "asyncio.Future[None]"]:
    """Wait until a condition holds, for 10 seconds at most."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  a process of the system sets no event
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def marker() -> str:
    """A command that lasts longer than any test and that no other test, on this machine or elsewhere, runs."""
    return f"sleep {secrets.randbelow(10**6) + 10**6}.{os.getpid()}"


@pytest.fixture
def parent_of() -> Callable[[int], int]:
    """The parent of a process, both as this host numbers them."""

    def find(pid: int) -> int:
        status = Path("/proc", str(pid), "status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))

    return find


@pytest.fixture
def core_pattern() -> Callable[[], str]:
    """The kernel setting that tells which program the host's root runs when something crashes."""
    return Path("/proc/sys/kernel/core_pattern").read_text
