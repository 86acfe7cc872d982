"""Sandboxes that are ready before anybody asks: taken by one session each, made again behind its back."""

import asyncio
from collections import deque

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import SandboxUnavailable
from ..core.rounds import repeat
from .base import Limits, Sandbox, SandboxBackend

_AFTER_FAILURE_S = 5.0
_CHECK_S = 2.0


class WarmShelf:
    """Keeps `wanted` sandboxes that nobody has had, as long as `keep_full` runs."""

    def __init__(self, backend: SandboxBackend, limits: Limits, wanted: int, *, clock: Clock) -> None:
        self._backend = backend
        self._limits = limits
        self._wanted = wanted
        self._clock = clock
        self._ready: deque[Sandbox] = deque()
        self._taken = asyncio.Event()
        self._failed = False

    def __len__(self) -> int:
        return len(self._ready)

    def __contains__(self, sandbox: Sandbox) -> bool:
        return sandbox in self._ready

    async def take(self) -> Sandbox:
        """A ready one that still answers, else a new one. Raises SandboxUnavailable."""
        started = self._clock.monotonic()
        try:
            sandbox = await self._answering()
            warm = "hit" if sandbox else "miss"
            sandbox = sandbox or await self._make()
        finally:
            self._taken.set()  # only now: making another one would slow this one down
        telemetry.SANDBOX_ACQUIRED.labels(warm).inc()
        telemetry.SANDBOX_ACQUIRE_SECONDS.labels(warm).observe(self._clock.monotonic() - started)
        return sandbox

    async def keep_full(self) -> None:
        """Until cancelled."""
        await repeat(self._fill, self._until_taken, name="warm sandboxes")

    async def aclose(self) -> None:
        """Destroy those that nobody took. `keep_full` must have ended."""
        ready = [*self._ready]
        self._ready.clear()
        async with asyncio.TaskGroup() as group:
            for sandbox in ready:
                group.create_task(sandbox.destroy())

    async def _answering(self) -> Sandbox | None:
        while self._ready:
            sandbox = self._ready.popleft()
            try:
                answers = await _answers(sandbox)
            except BaseException:
                # Whoever gives up waiting holds the only reference to it.
                await asyncio.shield(sandbox.destroy())
                raise
            if answers:
                return sandbox
            await sandbox.destroy()
        return None

    async def _make(self) -> Sandbox:
        try:
            return await self._backend.create(self._limits)
        except Exception as error:
            telemetry.SANDBOX_SPAWN_FAILURES.labels(_cause(error)).inc()
            raise

    async def _fill(self) -> None:
        self._failed = True
        while len(self._ready) < self._wanted:
            self._ready.append(await self._make())
        self._failed = False

    async def _until_taken(self) -> None:
        # After a failure the next lease asks again; without one there is nobody to keep trying for.
        if self._failed:
            await self._clock.sleep(_AFTER_FAILURE_S)
        await self._taken.wait()
        self._taken.clear()


async def _answers(sandbox: Sandbox) -> bool:
    try:
        async with asyncio.timeout(_CHECK_S):
            await sandbox.list(max_entries=1)
    except (SandboxUnavailable, TimeoutError):
        return False
    return True


def _cause(error: Exception) -> str:
    """For a label, so one of few: what is missing, as the backends name it, up to where the particulars begin."""
    if isinstance(error, SandboxUnavailable):
        what = next((str(what) for what, _ in error.details.get("missing", ())), error.code)
        return what.partition(":")[0].partition(" at ")[0][:60]
    return type(error).__name__
