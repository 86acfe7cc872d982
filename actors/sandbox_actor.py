"""SandboxActor: the sandboxes of one node. A shell round `sandbox/host.py`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import ray

from .core import telemetry
from .core.errors import SandboxUnavailable
from .core.opened import Opened
from .core.settings import Settings
from .sandbox.base import CopyResult, ExecResult, FileSlice, FileStat, LeasedSandboxes, Listing, SandboxStatus
from .sandbox.fence import Fence, bound
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
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._stopped: deque[str] = deque(maxlen=1_000)
        """Calls that were stopped before they began: a stop can overtake its call."""

    async def _open(self) -> LeasedSandboxes:
        telemetry.configure_logging(self._settings.log_level)
        return await self._stack.enter_async_context(open_sandboxes(self._settings))

    async def lease(self, call_id: str, session_id: str, *, fence: Fence) -> int:
        """Give the session a sandbox; the lease's number. `stop` with the same `call_id` ends the wait for it."""
        sandboxes = await self._sandboxes.get()
        if call_id in self._stopped:
            raise SandboxUnavailable("the call was given up")
        with bound(fence):
            task = asyncio.create_task(sandboxes.lease(session_id))
        self._running[call_id] = task
        try:
            return await task
        except asyncio.CancelledError:
            raise SandboxUnavailable("the call was given up") from None
        finally:
            del self._running[call_id]
            task.cancel()

    async def run(
        self, call_id: str, session_id: str, kind: str, text: str, *, timeout_s: float, stream: bool, fence: Fence
    ) -> AsyncIterator[str | ExecResult]:
        """Output as it comes, then the result. `stop` with the same `call_id` kills it."""
        sandboxes = await self._sandboxes.get()
        if call_id in self._stopped:
            yield ExecResult("cancelled", None, "")
            return
        output: list[str] = []
        method = sandboxes.shell if kind == "shell" else partial(sandboxes.python, keep=kind == "keep")
        with bound(fence):
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

    async def read(self, session_id: str, path: str, *, offset: int, max_bytes: int, fence: Fence) -> FileSlice:
        sandboxes = await self._sandboxes.get()
        with bound(fence):
            return await sandboxes.read(session_id, path, offset=offset, max_bytes=max_bytes)

    async def stat(self, session_id: str, path: str, *, fence: Fence) -> FileStat:
        sandboxes = await self._sandboxes.get()
        with bound(fence):
            return await sandboxes.stat(session_id, path)

    async def write(self, session_id: str, path: str, data: bytes, *, fence: Fence) -> None:
        sandboxes = await self._sandboxes.get()
        with bound(fence):
            await sandboxes.write(session_id, path, data)

    async def list(self, session_id: str, path: str, *, max_entries: int, fence: Fence) -> Listing:
        sandboxes = await self._sandboxes.get()
        with bound(fence):
            return await sandboxes.list(session_id, path, max_entries=max_entries)

    async def remove(self, session_id: str, path: str, *, recursive: bool, fence: Fence) -> None:
        sandboxes = await self._sandboxes.get()
        with bound(fence):
            await sandboxes.remove(session_id, path, recursive=recursive)

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
