"""SandboxActor: the sandboxes of one node. A shell round `sandbox/host.py`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import ray

from .core import telemetry
from .core.opened import Opened
from .core.settings import Settings
from .sandbox.base import CopyResult, ExecResult, FileInfo, FileSlice, FileStat, Sandboxes, SandboxStatus
from .wiring.sandbox import open_sandboxes

OUTPUT_INTERVAL_S = 0.05
"""Output of a tool is sent on at most this often: each item through a generator has its price."""


@ray.remote
class SandboxActor:
    """See `Sandboxes` for what the methods promise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._sandboxes = Opened(self._open)
        self._running: dict[str, asyncio.Task[ExecResult]] = {}
        self._stopped: deque[str] = deque(maxlen=1_000)
        """Calls that were stopped before they began: a stop can overtake its call."""

    async def _open(self) -> Sandboxes:
        telemetry.configure_logging(self._settings.log_level)
        return await self._stack.enter_async_context(open_sandboxes(self._settings))

    async def run(
        self, call_id: str, session_id: str, kind: str, text: str, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[str | ExecResult]:
        """Output as it comes, then the result. `stop` with the same `call_id` kills it."""
        sandboxes = await self._sandboxes.get()
        if call_id in self._stopped:
            yield ExecResult("cancelled", None, "")
            return
        output: list[str] = []
        method = sandboxes.shell if kind == "shell" else partial(sandboxes.python, keep=kind == "keep")
        task = asyncio.ensure_future(
            method(session_id, text, timeout_s=timeout_s, on_output=output.append if stream else None)
        )
        self._running[call_id] = task
        try:
            while not task.done():
                await asyncio.wait([task], timeout=OUTPUT_INTERVAL_S)
                if output and not task.done():
                    yield "".join(output)
                    output.clear()
            yield task.result()
        finally:
            del self._running[call_id]
            task.cancel()

    async def stop(self, call_id: str) -> None:
        if (task := self._running.get(call_id)) is not None:
            task.cancel()
        else:
            self._stopped.append(call_id)

    async def read(self, session_id: str, path: str, *, offset: int, max_bytes: int) -> FileSlice:
        return await (await self._sandboxes.get()).read(session_id, path, offset=offset, max_bytes=max_bytes)

    async def stat(self, session_id: str, path: str) -> FileStat:
        return await (await self._sandboxes.get()).stat(session_id, path)

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        await (await self._sandboxes.get()).write(session_id, path, data)

    async def list(self, session_id: str, path: str, *, max_entries: int) -> tuple[FileInfo, ...]:
        return await (await self._sandboxes.get()).list(session_id, path, max_entries=max_entries)

    async def holds(self, session_id: str) -> bool:
        return await (await self._sandboxes.get()).holds(session_id)

    async def copy(self, source: str, target: str) -> CopyResult:
        return await (await self._sandboxes.get()).copy(source, target)

    async def interrupt(self, session_id: str) -> None:
        await (await self._sandboxes.get()).interrupt(session_id)

    async def release(self, session_id: str) -> None:
        await (await self._sandboxes.get()).release(session_id)

    async def status(self) -> SandboxStatus:
        return await (await self._sandboxes.get()).status()

    async def metrics(self) -> bytes:
        return telemetry.exposition()

    async def drain(self) -> None:
        await self._stack.aclose()
