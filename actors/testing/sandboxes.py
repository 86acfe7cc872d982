"""Sandboxes for tests: commands answer from a script, files are real but live in a dict."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from ..core.errors import SandboxUnavailable
from ..sandbox.base import (
    Capability,
    CopyResult,
    ExecResult,
    FileInfo,
    FileSlice,
    FileStat,
    Level,
    Listing,
    OnOutput,
    SandboxStatus,
    WorkspaceError,
)


@dataclass(frozen=True, slots=True)
class FakeRun:
    """A command that a `FakeSandboxes` was asked to run."""

    session_id: str
    kind: Literal["shell", "python"]
    source: str
    timeout_s: float
    keep: bool = False


class FakeSandboxes:
    """`Sandboxes` in memory; isolation is not even pretended, because nothing is run.

    `results` answers a command or a program by its exact source; any other ends well with no output.
    One whose source is in `hanging` runs until it is cancelled. With `unavailable` every call raises it.
    `runs` is what was asked for; `started` is set as soon as there was one. `links` says of a path where it leads,
    `interrupted` which sessions were told to stop what runs. `listed_max` entries go into one answer.
    """

    def __init__(
        self,
        results: Mapping[str, ExecResult] | None = None,
        *,
        hanging: Collection[str] = (),
        unavailable: SandboxUnavailable | None = None,
    ) -> None:
        self.runs: list[FakeRun] = []
        self.cancelled: list[FakeRun] = []
        self.interrupted: list[str] = []
        self.started = asyncio.Event()
        self.links: dict[str, str] = {}
        self.listed_max = 1_000_000
        self._results = dict(results or {})
        self._hanging = frozenset(hanging)
        self._unavailable = unavailable
        self._files: dict[str, dict[str, bytes]] = {}
        self._ends: dict[str, set[asyncio.Event]] = {}

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._run(FakeRun(session_id, "shell", command, timeout_s), on_output)

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self._run(FakeRun(session_id, "python", code, timeout_s, keep), on_output)

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        files = self._workspace(session_id)
        name = _normal(path)
        if name not in files:
            raise WorkspaceError(f"There is no file {path!r}.")
        data = files[name]
        return FileSlice(data[offset : offset + max_bytes], offset, len(data))

    async def stat(self, session_id: str, path: str) -> FileStat:
        files = self._workspace(session_id)
        name = _normal(path)
        where = self.links.get(name, name)
        if where in files:
            return FileStat(where, "file", len(files[where]))
        return FileStat(where, "folder" if where in _folders(files) else "missing")

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        files = self._workspace(session_id)
        name = _normal(path)
        if name in _folders(files):
            raise WorkspaceError(f"{path!r} is a folder.")
        if any(str(folder) in files for folder in PurePosixPath(name).parents):
            raise WorkspaceError(f"A folder above {path!r} is a file.")
        files[name] = data

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> Listing:
        files = self._workspace(session_id)
        folders = _folders(files)
        top = _normal(path)
        if top not in folders:
            raise WorkspaceError(f"There is no folder {path!r}.")
        found = [FileInfo(name, len(data)) for name, data in files.items()]
        found += [FileInfo(name, 0, is_dir=True) for name in folders - {"."}]
        below = [info for info in found if PurePosixPath(top) in PurePosixPath(info.path).parents]
        shown = sorted(below, key=lambda info: PurePosixPath(info.path).parts)[: min(max_entries, self.listed_max)]
        return Listing(shown, cut=len(shown) < min(max_entries, len(below)))

    async def remove(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        files = self._workspace(session_id)
        name = _normal(path)
        below = [file for file in files if PurePosixPath(name) in PurePosixPath(file).parents]
        if name == "." or (name not in files and not below):
            raise WorkspaceError(f"There is nothing to remove at {path!r}.")
        if below and not recursive:
            raise WorkspaceError(f"{path!r} is a folder that is not empty.")
        for file in [*below, name]:
            files.pop(file, None)

    async def holds(self, session_id: str) -> bool:
        return session_id in self._files

    async def copy(self, source: str, target: str) -> CopyResult:
        if source not in self._files:
            return CopyResult()
        copied = self._workspace(target)
        copied.update(self._files[source])
        return CopyResult(len(copied), sum(map(len, copied.values())))

    async def interrupt(self, session_id: str) -> None:
        self.interrupted.append(session_id)
        if self._unavailable:
            raise self._unavailable
        for end in self._ends.pop(session_id, set()):
            end.set()

    async def release(self, session_id: str) -> None:
        self._files.pop(session_id, None)

    async def status(self) -> SandboxStatus:
        level = Level.NONE if self._unavailable else Level.NAMESPACE
        return SandboxStatus(Capability("fake", level), leased=len(self._files))

    async def _run(self, run: FakeRun, on_output: OnOutput | None) -> ExecResult:
        self._workspace(run.session_id)
        self.runs.append(run)
        self.started.set()
        if run.source in self._hanging:
            end = asyncio.Event()
            self._ends.setdefault(run.session_id, set()).add(end)
            try:
                await end.wait()
            except asyncio.CancelledError:
                self.cancelled.append(run)
                raise
            return ExecResult("cancelled", None, "")
        result = self._results.get(run.source, ExecResult("ok", 0, ""))
        if on_output and result.output:
            on_output(result.output)
        return result

    def _workspace(self, session_id: str) -> dict[str, bytes]:
        if self._unavailable:
            raise self._unavailable
        return self._files.setdefault(session_id, {})


def _normal(path: str) -> str:
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise WorkspaceError(f"{path!r} is outside the workspace.")
    return str(PurePosixPath(path))


def _folders(files: Mapping[str, bytes]) -> set[str]:
    return {".", *(str(folder) for name in files for folder in PurePosixPath(name).parents)}
