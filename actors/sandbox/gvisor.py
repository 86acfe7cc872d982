"""Sandboxes by gVisor: a kernel of its own between the code and this machine's, with the same agent inside.

What the other backends hold in place holds here too: no network, a read-only root, our own system call filter, limits
and a host user of each sandbox's own. `runsc` is driven directly and never runs as the host's root.
"""

import asyncio
import os
import platform
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.clock import Clock, SystemClock
from . import gvisor_bundle
from .agent_sandbox import AgentSandbox
from .agent_start import start_agent
from .base import Capability, ExecResult, Level, Limits, Missing
from .canary import HIDDEN, diagnose, findings, program
from .cgroups import ControlGroups, Surroundings, find_control_groups
from .ground import Ground
from .gvisor_runsc import Runsc, choose_platform, find_runsc
from .gvisor_sentry import Launch, Sentry
from .host_users import HostUsers
from .interior import CANARY_LIMITS, MIB, check_workspace_fits
from .memory_guard import MemoryGuard
from .rootfs import CannotBuild, RootFs, default_cache, ensure_rootfs
from .seccomp import filter_for
from .unavailable import reported

NAME = "gvisor"

_HEADROOM_BYTES = 160 * MIB
"""What gVisor itself holds, and what a command can take before it is stopped, above the limit of the sandbox."""
_THREADS_PER_PROCESS = 16
_OWN_THREADS = 256
"""Threads on this machine of one program inside, and of gVisor with none: a ceiling for what would run wild. What
bounds the programs is a limit inside."""
_CANARY_SHELL = "uname -r; ls -d /usr"
_SAME_KERNEL = Missing("a kernel of its own", "do not use this runsc for untrusted code: it shows the machine's kernel")
OLD_RUNSC = Missing(
    "`ls` and `stat`, which ask this runsc for what it does not know yet", "a release of gVisor from 2023 or later"
)
_NO_WAY_OUT = Missing(
    "a way out to the allowed domains",
    "set GREENROOM_SANDBOX to bubblewrap or docker, or leave GREENROOM_SANDBOX_EGRESS_DOMAINS empty",
)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all sandboxes of a backend share."""

    rootfs: RootFs
    runsc: Runsc
    groups: ControlGroups
    seccomp: bytes


class GvisorBackend:
    """Makes sandboxes by the `runsc` of this machine. `cache` holds the root filesystem, built when first needed.

    The workspace, /tmp and /dev/shm lie in memory and count against `memory_bytes`. There is no way out, whatever
    `domains` are wanted: the probe names it as missing.
    """

    def __init__(self, cache: Path | None = None, *, clock: Clock | None = None, domains: Sequence[str] = ()) -> None:
        self._cache = cache or default_cache()
        self._clock = clock or SystemClock()
        # A sandbox dies with the thread that started it: this one lives as long as the backend.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gvisor-starter")
        self._ground = Ground(self._prepare, self._starter)
        self._domains = tuple(domains)
        self._sentries: set[Sentry] = set()
        self._users = HostUsers()

    async def probe(self) -> Capability:
        return await reported(NAME, self._probe)

    async def create(self, limits: Limits) -> AgentSandbox:
        check_workspace_fits(limits)
        sandbox, _ = await self._create(await self._ground.get(), limits)
        return sandbox

    async def build(self) -> str:
        return str((await self._ground.get()).rootfs.root)

    async def aclose(self) -> None:
        self._ground.close()
        sentries, self._sentries = self._sentries, set()
        async with asyncio.TaskGroup() as group:
            for sentry in sentries:
                group.create_task(asyncio.to_thread(sentry.end))
        # With what was being started meanwhile, which is ended there as soon as it has.
        await asyncio.to_thread(self._starter.shutdown)

    async def _probe(self) -> Capability:
        ground = await self._ground.get()
        sandbox, uid = await self._create(ground, CANARY_LIMITS)
        try:
            hidden = [*HIDDEN, str(ground.rootfs.root), str(self._cache), __file__]
            result = await sandbox.python(program(hidden), timeout_s=CANARY_LIMITS.command_s)
            tools = await sandbox.shell(_CANARY_SHELL, timeout_s=CANARY_LIMITS.command_s)
        finally:
            await sandbox.destroy()
        broken = [*findings(result.output), *_findings_of_kernel(tools)]
        if uid == 0:
            broken.append(Missing("a host user other than root", "report this: gVisor was started as root"))
        if broken:
            return Capability(NAME, Level.NONE, missing=tuple(broken))
        limits = frozenset({"disk", "time", "output", "pids"}) | ground.groups.limits
        missing = [gap for controller, gap in ground.groups.missing.items() if controller != "pids"]
        if tools.exit_code:
            missing.append(OLD_RUNSC)
        if self._domains:
            missing.append(_NO_WAY_OUT)
        return Capability(NAME, Level.GVISOR, limits, tuple(missing))

    def _prepare(self) -> _Shared:
        seccomp = filter_for(lenient=True)
        if seccomp is None:
            raise CannotBuild(f"a system call filter for {platform.machine()}", "use a machine with x86_64 or aarch64")
        runsc = find_runsc()
        groups = find_control_groups(Surroundings.of_this_process())
        groups.remove_leftovers()
        rootfs = ensure_rootfs(self._cache)
        gvisor_bundle.remove_leftovers(self._cache)

        def start(name: str) -> Sentry:
            ground = _Shared(rootfs, Runsc(runsc, name), groups, seccomp)
            with Path(os.devnull).open() as nothing:
                return self._start(ground, CANARY_LIMITS, ["/usr/bin/true"], nothing.fileno())

        try:
            return _Shared(rootfs, Runsc(runsc, choose_platform(runsc, start)), groups, seccomp)
        except OSError as error:
            gap = diagnose(f"launcher: {error}")
            raise CannotBuild(gap.what, gap.fix) from error

    async def _create(self, ground: _Shared, limits: Limits) -> tuple[AgentSandbox, int]:
        """A ready sandbox, and the host user that it runs as."""
        self._sentries = {sentry for sentry in self._sentries if not sentry.ended}
        sentry, channel, uid = await start_agent(
            self._starter, lambda control: self._start_agent(ground, limits, control), Sentry.settle
        )
        guard = MemoryGuard(sentry.memory_bytes, sentry.memory_bytes() + limits.memory_bytes)
        return AgentSandbox(channel, sentry, limits, clock=self._clock, watch=guard), uid

    def _start_agent(self, ground: _Shared, limits: Limits, control: socket.socket) -> Sentry:
        with control:
            command = gvisor_bundle.agent_command(ground.rootfs, limits)
            sentry = self._start(ground, limits, command, control.fileno())
        self._sentries.add(sentry)
        return sentry

    def _start(self, ground: _Shared, limits: Limits, command: list[str], stdin_fd: int) -> Sentry:
        """Raises OSError."""
        uid = self._users.take() if os.geteuid() == 0 else None
        bounded = "memory" in ground.groups.places
        bundle = gvisor_bundle.create(
            self._cache,
            ground.rootfs,
            limits,
            command,
            ground.seccomp,
            uid=uid,
            address_space=None if bounded else limits.memory_bytes,
        )
        group = None
        try:
            group = ground.groups.create(_as_the_host_sees_them(limits))
            launch = Launch(ground.runsc.program, ground.runsc.platform, bundle, uid, group)
            return Sentry.start(launch, stdin_fd, lifeline=self._starter)
        except BaseException:
            if group:
                group.remove()
            bundle.remove()
            raise


def _as_the_host_sees_them(limits: Limits) -> Limits:
    return replace(
        limits,
        memory_bytes=limits.memory_bytes + _HEADROOM_BYTES,
        pids=limits.pids * _THREADS_PER_PROCESS + _OWN_THREADS,
    )


def _findings_of_kernel(tools: ExecResult) -> tuple[Missing, ...]:
    release, *_ = tools.output.splitlines() or [""]
    return () if release and release != platform.release() else (_SAME_KERNEL,)
