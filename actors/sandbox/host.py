"""The sandboxes of one machine: one per session, never given to a second, some kept warm.

`open_sandboxes` probes first. Where isolation is too weak it gives an `UnavailableSandboxes`, which refuses
every call with the reason; code of tools never runs outside.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ..core.clock import Clock
from ..core.errors import SandboxUnavailable
from .base import (
    Capability,
    CopyResult,
    ExecResult,
    FileInfo,
    FileSlice,
    FileStat,
    Level,
    OnOutput,
    Sandbox,
    SandboxBackend,
    SandboxSpec,
    SandboxStatus,
    WorkspaceError,
)
from .unavailable import UnavailableSandboxes

_REFILL_PAUSE_S = 5.0
_REAPS_PER_IDLE = 4
_CHECK_S = 2.0
COPIED_ENTRIES = 10_000
_LOST = "The session's sandbox was lost, and its workspace with it. The next call gets a new, empty one."

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


async def open_sandboxes(
    backend: SandboxBackend, spec: SandboxSpec, *, clock: Clock, require: Level = Level.NAMESPACE
) -> "SandboxHost | UnavailableSandboxes":
    """Probe, then start a host; or close the backend and refuse, where it does not reach `require`."""
    capability = await backend.probe()
    if not capability.level.reaches(require):
        await backend.aclose()
        return UnavailableSandboxes(capability, require)
    host = SandboxHost(backend, spec, capability, clock=clock)
    host.start()
    return host


@dataclass(slots=True)
class _Lease:
    """A session's hold on a sandbox. `turn` guards `sandbox`: of calls that come at once, one makes it."""

    used_s: float
    users: int = 0
    sandbox: Sandbox | None = None
    commands: set[asyncio.Task[ExecResult]] = field(default_factory=set[asyncio.Task[ExecResult]])
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class SandboxHost:
    """`Sandboxes` over one backend. It owns the backend from here on; `aclose` ends both.

    A lost sandbox is dropped. The call that found it so says it, by the verdict `sandbox_lost` or by
    `SandboxUnavailable`, and the next one gets a new sandbox with an empty workspace.
    """

    def __init__(self, backend: SandboxBackend, spec: SandboxSpec, capability: Capability, *, clock: Clock) -> None:
        self._backend = backend
        self._spec = spec
        self._capability = capability
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._warm: deque[Sandbox] = deque()
        self._warm_wanted = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to keep sandboxes warm and to end idle ones. Idempotent."""
        if self._upkeep is None and not self._closed:
            self._warm_wanted.set()
            self._upkeep = asyncio.create_task(self._keep_up(), name="sandbox-upkeep")

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

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> tuple[FileInfo, ...]:
        return await self._use(session_id, lambda s: s.list(path, max_entries=max_entries))

    async def holds(self, session_id: str) -> bool:
        return session_id in self._leases

    async def copy(self, source: str, target: str) -> CopyResult:
        if source not in self._leases:
            return CopyResult()
        found = await self.list(source, max_entries=COPIED_ENTRIES + 1)
        if len(found) > COPIED_ENTRIES:
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

    async def interrupt(self, session_id: str) -> None:
        lease = self._leases.get(session_id)
        commands = lease.commands.copy() if lease else None
        if not commands:
            return
        for command in commands:
            if not command.cancelling():  # a second cancel would cut short the killing of what runs
                command.cancel()
        await asyncio.wait(commands)

    async def release(self, session_id: str) -> None:
        lease = self._leases.pop(session_id, None)
        if lease and lease.sandbox:
            await lease.sandbox.destroy()

    async def status(self) -> SandboxStatus:
        return SandboxStatus(self._capability, leased=len(self._leases), warm=len(self._warm))

    async def aclose(self) -> None:
        """Destroy every sandbox, leased or warm, and close the backend. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._upkeep:
            self._upkeep.cancel()
            await asyncio.wait({self._upkeep})
        held = [lease.sandbox for lease in self._leases.values() if lease.sandbox] + [*self._warm]
        self._leases.clear()
        self._warm.clear()
        async with asyncio.TaskGroup() as group:
            for sandbox in held:
                group.create_task(sandbox.destroy())
        await self._backend.aclose()

    async def _execute(self, session_id: str, call: Callable[[Sandbox], Awaitable[ExecResult]]) -> ExecResult:
        """In a task of its own, which `interrupt` can end without ending the caller's."""
        lease = self._lease(session_id)
        command = asyncio.create_task(self._command(session_id, lease, call), name=f"command {session_id}")
        lease.commands.add(command)
        try:
            return await command
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            return ExecResult("cancelled", None, "")
        finally:
            lease.commands.discard(command)
            self._leave(lease)

    async def _command(
        self, session_id: str, lease: _Lease, call: Callable[[Sandbox], Awaitable[ExecResult]]
    ) -> ExecResult:
        sandbox = await self._sandbox(session_id, lease)
        try:
            result = await call(sandbox)
        except SandboxUnavailable:
            result = ExecResult("sandbox_lost", None, "")
        if result.verdict == "sandbox_lost":
            await self._drop(lease, sandbox)
        return result

    async def _use(self, session_id: str, call: Callable[[Sandbox], Awaitable[Result]]) -> Result:
        lease = self._lease(session_id)
        try:
            sandbox = await self._sandbox(session_id, lease)
            try:
                return await call(sandbox)
            except SandboxUnavailable as error:
                await self._drop(lease, sandbox)
                raise SandboxUnavailable(_LOST) from error
        finally:
            self._leave(lease)

    def _lease(self, session_id: str) -> _Lease:
        if self._closed:
            raise SandboxUnavailable("The sandbox host is closed.")
        lease = self._leases.get(session_id)
        if lease is None:
            if len(self._leases) >= self._spec.max_leased:
                raise SandboxUnavailable(
                    f"All {self._spec.max_leased} sandboxes of this node are in use; try again when a session has "
                    "ended, or raise sandbox_max_leased.",
                    max_leased=self._spec.max_leased,
                )
            lease = self._leases[session_id] = _Lease(self._clock.monotonic())
        lease.users += 1
        return lease

    def _leave(self, lease: _Lease) -> None:
        lease.users -= 1
        lease.used_s = self._clock.monotonic()
        if lease.sandbox is None and not lease.users:
            # A session that has nothing, because none could be made or it was lost, must not keep a place.
            for session_id in [key for key, value in self._leases.items() if value is lease]:
                del self._leases[session_id]

    async def _sandbox(self, session_id: str, lease: _Lease) -> Sandbox:
        async with lease.turn:
            if lease.sandbox is None:
                sandbox = await self._take()
                if self._leases.get(session_id) is not lease:
                    await sandbox.destroy()
                    raise SandboxUnavailable("The session's sandbox was released while it was being made.")
                sandbox.assign(session_id)
                lease.sandbox = sandbox
            return lease.sandbox

    async def _take(self) -> Sandbox:
        """A sandbox that nobody has had: a warm one that still answers, else a new one."""
        self._warm_wanted.set()
        while self._warm:
            sandbox = self._warm.popleft()
            try:
                answers = await _answers(sandbox)
            except BaseException:
                # Whoever gives up waiting holds the only reference to it.
                await asyncio.shield(sandbox.destroy())
                raise
            if answers:
                return sandbox
            await sandbox.destroy()
        return await self._backend.create(self._spec.limits)

    async def _drop(self, lease: _Lease, sandbox: Sandbox) -> None:
        if lease.sandbox is sandbox:
            lease.sandbox = None
        await sandbox.destroy()

    async def _keep_up(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._refill())
            group.create_task(self._reap())

    async def _refill(self) -> None:
        while True:
            await self._warm_wanted.wait()
            self._warm_wanted.clear()
            try:
                while len(self._warm) < self._spec.warm:
                    self._warm.append(await self._backend.create(self._spec.limits))
            except Exception as error:  # noqa: BLE001  nobody is there to catch it, and upkeep must outlive it
                # The next lease asks again; without one there is nobody to keep trying for.
                _log.warning("no warm sandbox could be made: %r", error)
                await self._clock.sleep(_REFILL_PAUSE_S)

    async def _reap(self) -> None:
        while True:
            await self._clock.sleep(self._spec.idle_s / _REAPS_PER_IDLE)
            now = self._clock.monotonic()
            for session_id, lease in list(self._leases.items()):
                if lease.users or now - lease.used_s < self._spec.idle_s:
                    continue
                try:
                    await self.release(session_id)
                except Exception:  # noqa: BLE001  as above
                    _log.exception("an idle sandbox could not be destroyed")


async def _answers(sandbox: Sandbox) -> bool:
    try:
        async with asyncio.timeout(_CHECK_S):
            await sandbox.list(max_entries=1)
    except (SandboxUnavailable, TimeoutError):
        return False
    return True
