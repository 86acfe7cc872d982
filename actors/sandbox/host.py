"""The sandboxes of one machine: one per session, never given to a second, some kept warm.

`open_sandboxes` probes first. Where isolation is too weak it gives an `UnavailableSandboxes`, which refuses
every call with the reason; code of tools never runs outside.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import LeaseEnded, SandboxUnavailable
from .base import (
    Capability,
    CopyResult,
    ExecResult,
    FileSlice,
    FileStat,
    Level,
    Listing,
    OnOutput,
    Sandbox,
    SandboxBackend,
    SandboxSpec,
    SandboxStatus,
    WorkspaceError,
)
from .fence import Epochs, current
from .keeping import Keeping, NothingKept
from .leases import RELEASED, Lease, Leases
from .running import Interrupted, Running
from .unavailable import UnavailableSandboxes
from .upkeep import Upkeep
from .warm import WarmShelf

_CLOSE_S = 60.0
_SAVES = 3
"""So often is a workspace tried to be saved of a sandbox that cannot stay."""

_SAVE_PAUSE_S = 1.0
_ENDING_S = 25.0
"""So long is an answer held back for that depends on how a workspace was saved: less than callers wait."""

COPIED_ENTRIES = 10_000
_LEFT = ("idle", "age")
"""Reasons to end a lease that can wait."""

_LOST = "The session's sandbox was lost, and what its workspace held that was not kept. The next call gets a new one."
_ENDED = "The session's sandbox was given back before this call came."

Result = TypeVar("Result")
_log = structlog.get_logger("greenroom.sandboxes")


async def open_sandboxes(
    backend: SandboxBackend,
    spec: SandboxSpec,
    *,
    clock: Clock,
    require: Level = Level.NAMESPACE,
    keeping: Keeping | None = None,
) -> "SandboxHost | UnavailableSandboxes":
    """Probe, then start a host; or close the backend and refuse, where it does not reach `require`."""
    capability = await backend.probe()
    if not capability.level.reaches(require):
        await backend.aclose()
        return UnavailableSandboxes(capability, require)
    host = SandboxHost(backend, spec, capability, clock=clock, keeping=keeping)
    host.start()
    return host


class SandboxHost:
    """`Sandboxes` over one backend. It owns the backend from here on; `aclose` ends both.

    A lost sandbox is dropped. The call that found it so says it, by the verdict `sandbox_lost` or by
    `SandboxUnavailable`, and the next one gets a new sandbox, with what `keeping` has of the workspace.

    Calls that are bound to an earlier epoch of the session than one before, or to a lease that has ended, are
    refused with `LeaseEnded`; see `fence.py`.
    """

    def __init__(
        self,
        backend: SandboxBackend,
        spec: SandboxSpec,
        capability: Capability,
        *,
        clock: Clock,
        keeping: Keeping | None = None,
    ) -> None:
        self._backend = backend
        self._spec = spec
        self._capability = capability
        self._clock = clock
        self._shelf = WarmShelf(backend, spec.limits, spec.warm, clock=clock)
        self._leases = Leases(
            places=spec.max_leased,
            waiting_max=spec.max_waiting,
            wait_s=spec.wait_s,
            clock=clock,
            first_number=time.time_ns(),  # none that a process before this one has given
            make_room=self._make_room,
        )
        self._upkeep = Upkeep(self._leases, spec, self._end, clock=clock)
        self._workspaces: Keeping = keeping or NothingKept()
        self._epochs = Epochs()
        self._running = Running()
        self._endings: set[asyncio.Task[None]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to keep sandboxes warm, to freeze idle ones and to end them. Idempotent."""
        if self._keeping is None and not self._closed:
            self._keeping = asyncio.create_task(self._keep_up(), name="sandbox-upkeep")

    async def lease(self, session_id: str) -> int:
        """Make sure that the session has a sandbox, and return the number of its lease: calls may be bound to it.

        Waits as the first call would that needs a sandbox.
        """

        async def take() -> int:
            lease = await self._enter(session_id)
            try:
                await self._sandbox(lease)
                return lease.number
            finally:
                self._leases.leave(lease)

        try:
            return await self._running.run(session_id, take())
        except Interrupted:
            raise SandboxUnavailable("The call was cancelled while it waited for a sandbox.") from None

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._execute(session_id, lambda s: s.shell(command, timeout_s=timeout_s, on_output=on_output))

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self._execute(
            session_id, lambda s: s.python(code, timeout_s=timeout_s, on_output=on_output, keep=keep)
        )

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        return await self._use(session_id, lambda s: s.read(path, offset=offset, max_bytes=max_bytes))

    async def stat(self, session_id: str, path: str) -> FileStat:
        return await self._use(session_id, lambda s: s.stat(path))

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        await self._use(session_id, lambda s: s.write(path, data))

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> Listing:
        return await self._use(session_id, lambda s: s.list(path, max_entries=max_entries))

    async def remove(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        await self._use(session_id, lambda s: s.remove(path, recursive=recursive))

    async def holds(self, session_id: str) -> bool:
        await self._leases.ended(session_id, within_s=_ENDING_S)
        return session_id in self._leases

    async def copy(self, source: str, target: str) -> CopyResult:
        if not await self.holds(source):
            return await self._copy_kept(source, target)
        found = await self.list(source, max_entries=COPIED_ENTRIES + 1)
        if found.cut or len(found) > COPIED_ENTRIES:
            raise WorkspaceError(f"The workspace has more than {COPIED_ENTRIES:,} files and folders; none was copied.")
        size = 0
        files = [info for info in found if not info.is_dir]
        for info in files:
            part = await self.read(source, info.path, max_bytes=self._spec.limits.file_bytes)
            if len(part.data) < part.size_bytes:
                raise WorkspaceError(f"{info.path!r} is larger than a file may be.")
            await self.write(target, info.path, part.data)
            size += len(part.data)
        return CopyResult(len(files), size)

    async def _copy_kept(self, source: str, target: str) -> CopyResult:
        if not await self._workspaces.keeps(source):
            return CopyResult()
        return await self._use(target, lambda sandbox: self._workspaces.copied(source, sandbox))

    async def interrupt(self, session_id: str) -> None:
        if commands := self._running.interrupt(session_id):
            await asyncio.wait(commands)

    async def release(self, session_id: str) -> None:
        self._leases.withdraw(session_id)
        if (lease := self._leases.get(session_id)) is not None:
            made = lease.sandbox is not None
            ending = self._end(lease, "released")
            if made:  # else whoever makes it waits no longer than for that
                await asyncio.shield(ending)
        await self._workspaces.forget(session_id)

    async def status(self) -> SandboxStatus:
        leases = self._leases
        return SandboxStatus(self._capability, leased=len(leases), warm=len(self._shelf), waiting=leases.waiting)

    async def aclose(self) -> None:
        """Destroy every sandbox, leased or warm, and close the backend. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._keeping:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        self._leases.close()
        for lease in self._leases.held:
            self._end(lease, "closed")
        if self._endings:
            await asyncio.wait(self._endings, timeout=_CLOSE_S)
        await self._shelf.aclose()
        await self._backend.aclose()

    # A session's sandbox ------------------------------------------------------------------------------

    async def _execute(self, session_id: str, call: Callable[[Sandbox], Awaitable[ExecResult]]) -> ExecResult:
        try:
            return await self._running.run(session_id, self._command(session_id, call))
        except Interrupted:
            return ExecResult("cancelled", None, "")

    async def _command(self, session_id: str, call: Callable[[Sandbox], Awaitable[ExecResult]]) -> ExecResult:
        lease = await self._enter(session_id)
        try:
            sandbox = await self._sandbox(lease)
            try:
                result = await call(sandbox)
            except SandboxUnavailable:
                result = ExecResult("sandbox_lost", None, "")
            if result.verdict == "sandbox_lost":
                await self._drop(lease, sandbox)
            return self._told(session_id, result)
        finally:
            self._leases.leave(lease)

    async def _use(self, session_id: str, call: Callable[[Sandbox], Awaitable[Result]]) -> Result:
        lease = await self._enter(session_id)
        try:
            sandbox = await self._sandbox(lease)
            try:
                return await call(sandbox)
            except SandboxUnavailable as error:
                await self._drop(lease, sandbox)
                raise SandboxUnavailable(_LOST) from error
            except WorkspaceError as error:
                if (notice := self._workspaces.notice(session_id)) is not None:
                    raise type(error)(f"{error} ({notice})") from error
                raise
        finally:
            self._leases.leave(lease)

    def _told(self, session_id: str, result: ExecResult) -> ExecResult:
        """With what the model must know of the workspace before all else."""
        notice = self._workspaces.notice(session_id)
        return result if notice is None else replace(result, output=f"[{notice}]\n{result.output}")

    async def _enter(self, session_id: str) -> Lease:
        """The session's lease, which is to be left. Ends what runs for an owner that was overtaken."""
        fence = current()
        if self._epochs.check(session_id, fence.epoch):
            self._running.interrupt(session_id, before_epoch=fence.epoch)
        if fence.lease is not None:
            held = self._leases.get(session_id)
            if held is None or held.number != fence.lease:
                raise LeaseEnded(_ENDED)
        return await self._leases.enter(session_id)

    async def _sandbox(self, lease: Lease) -> Sandbox:
        async with lease.turn:
            self._check(lease)
            sandbox = lease.sandbox
            if sandbox is None:
                sandbox = lease.sandbox = await self._shelf.take()
                sandbox.assign(lease.session_id)
                await self._or_drop(lease, sandbox, self._workspaces.given(lease.session_id, sandbox))
            elif lease.frozen:
                await self._or_drop(lease, sandbox, sandbox.resume())
            lease.frozen = False
        self._check(lease)
        return sandbox

    def _check(self, lease: Lease) -> None:
        """While it waited the lease may have ended, and the session may have been taken over."""
        self._epochs.check(lease.session_id, current().epoch)
        if self._leases.get(lease.session_id) is not lease:
            raise SandboxUnavailable(RELEASED)

    async def _or_drop(self, lease: Lease, sandbox: Sandbox, step: Awaitable[None]) -> None:
        """A sandbox that is not as its session is to find it is given to nobody."""
        try:
            await step
        except BaseException:
            await asyncio.shield(self._drop(lease, sandbox))
            raise

    async def _drop(self, lease: Lease, sandbox: Sandbox) -> None:
        if lease.sandbox is sandbox:
            lease.sandbox = None
            telemetry.SANDBOX_ENDED.labels("lost").inc()
        await sandbox.destroy()

    async def _kept(self, lease: Lease, sandbox: Sandbox, reason: str) -> bool:
        """Whether the sandbox may be destroyed: its workspace is kept, or cannot be, or its place is needed."""
        tries = _SAVES if reason == "closed" else 1
        for number in range(tries):
            if number:
                await self._clock.sleep(_SAVE_PAUSE_S)
            if await self._workspaces.given_up(lease.session_id, sandbox):
                return True
        if reason in _LEFT:
            return False
        self._workspaces.lost(lease.session_id, "the store that keeps it did not answer when its sandbox had to go")
        return True

    def _make_room(self) -> None:
        self._upkeep.make_room()

    def _end(self, lease: Lease, reason: str) -> asyncio.Task[None]:
        """The session has no sandbox from now on; the place is taken until the old one is destroyed."""
        telemetry.SANDBOX_ENDED.labels(reason).inc()
        ending = asyncio.create_task(
            self._destroy(lease, self._leases.end(lease), reason), name=f"end {lease.session_id}"
        )
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    async def _destroy(self, lease: Lease, free: Callable[[], None], reason: str) -> None:
        try:
            async with lease.turn:  # whoever makes it or wakes it does that first
                sandbox, lease.sandbox = lease.sandbox, None
            if sandbox is not None and not await self._parted(lease, sandbox, reason):
                lease.sandbox = sandbox
                self._leases.take_back(lease)
        except Exception:  # noqa: BLE001  nobody waits for it who could catch it, and the place must become free
            _log.exception("a sandbox could not be ended as it should", session_id=lease.session_id)
        finally:
            free()

    async def _parted(self, lease: Lease, sandbox: Sandbox, reason: str) -> bool:
        """Destroy the sandbox, unless its workspace could not be kept now and may be later."""
        parted = True
        try:
            if reason != "released":
                if lease.frozen:
                    await sandbox.resume()
                    lease.frozen = False
                parted = await self._kept(lease, sandbox, reason)
        finally:
            if parted:
                await sandbox.destroy()
        return parted

    async def _keep_up(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._shelf.keep_full())
            group.create_task(self._upkeep.run())
