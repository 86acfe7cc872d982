"""Doubles for the host's tests: a backend whose sandboxes are dictionaries, and a transport that keeps what is sent."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import (
    Capability,
    CopyResult,
    ExecResult,
    FileInfo,
    FileSlice,
    FileStat,
    Level,
    Limits,
    Listing,
    WorkspaceError,
)


@dataclass(eq=False)
class FakeSandbox:
    """Runs nothing; remembers who used it. `lost` makes it answer as a sandbox that is gone."""

    number: int
    files: dict[str, bytes] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    lost: bool = False
    destroyed: bool = False
    paused: bool = False
    verdict: str = "ok"
    session_id: str | None = None
    packing: asyncio.Event | None = None

    def _check(self):
        assert not self.paused, "nobody may use one that is paused"
        if self.lost or self.destroyed:
            raise SandboxUnavailable("gone")

    async def shell(self, command, *, timeout_s, on_output=None):
        self._check()
        self.commands.append(command)
        return ExecResult(self.verdict, 0, f"sandbox {self.number}")

    async def python(self, code, *, timeout_s, on_output=None, keep=False):
        return await self.shell(code, timeout_s=timeout_s)

    async def read(self, path, *, offset=0, max_bytes):
        self._check()
        if path not in self.files:
            raise WorkspaceError("No such file")
        return FileSlice(self.files[path][offset : offset + max_bytes], offset, len(self.files[path]))

    async def write(self, path, data):
        self._check()
        self.files[path] = data

    async def remove(self, path, *, recursive=False):
        self._check()
        if self.files.pop(path, None) is None:
            raise WorkspaceError("No such file")

    async def stat(self, path):
        self._check()
        return FileStat(path, "file", len(self.files[path])) if path in self.files else FileStat(path, "missing")

    async def list(self, path=".", *, max_entries=1000):
        self._check()
        return Listing(FileInfo(name, len(data)) for name, data in self.files.items())

    def assign(self, session_id):
        assert self.session_id is None
        self.session_id = session_id

    async def pack(self, *, max_bytes):
        self._check()
        data = json.dumps({name: content.decode() for name, content in self.files.items()}).encode()
        if len(data) > max_bytes:
            raise WorkspaceError("too large")
        yield data[:3]
        if self.packing is not None:
            await self.packing.wait()
        yield data[3:]

    async def unpack(self, chunks):
        self._check()
        data = b"".join([chunk async for chunk in chunks])
        try:
            files = json.loads(data)
        except ValueError as error:
            raise WorkspaceError("not a workspace") from error
        self.files |= {name: content.encode() for name, content in files.items()}
        return CopyResult(len(files), sum(map(len, files.values())))

    async def pause(self):
        self.paused = True

    async def resume(self):
        self.paused = False

    async def destroy(self):
        self.destroyed = True


class FakeBackend:
    """Makes FakeSandboxes. `gate` holds back creation; `failures` creations from now on fail with `failure`."""

    def __init__(self):
        self.made: list[FakeSandbox] = []
        self.capability = Capability("fake", Level.NAMESPACE, frozenset({"time"}))
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0
        self.failure: Exception = SandboxUnavailable("the machine is full")
        self.closed = False
        self.creating = 0

    async def probe(self):
        return self.capability

    async def create(self, limits: Limits):
        self.creating += 1
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise self.failure
        self.made.append(FakeSandbox(len(self.made)))
        return self.made[-1]

    async def aclose(self):
        self.closed = True


@pytest.fixture
async def backend():
    return FakeBackend()


@pytest.fixture
def until():
    """Let other tasks run until a condition holds, for 5 seconds at most."""

    async def wait(condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110  any of several tasks may bring it about
                await asyncio.sleep(0)

    return wait
