"""Sandboxes by bubblewrap: namespaces, our own system call filter, limits and control groups, a dropped user.

As root every sandbox runs as a host user of its own; bubblewrap never runs as the host's root, because a
root that is mapped inside may write the host's kernel settings.
"""

import asyncio
import os
import platform
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..core.clock import Clock, SystemClock
from .agent_sandbox import AgentSandbox
from .agent_start import start_agent
from .base import Capability, Level, Limits, Missing
from .canary import HIDDEN, findings, program
from .cgroups import ControlGroups, Surroundings, find_control_groups
from .egress import Egress, Outlet, outlet_of
from .ground import Ground
from .host_users import HostUsers
from .inside.bridge import FOLDER
from .interior import CANARY_LIMITS, agent_program, check_workspace_fits, environment, writable_folders
from .jail import Jail, Launch, process_limits
from .rootfs import CannotBuild, RootFs, default_cache, ensure_rootfs
from .seccomp import filter_for
from .spawner import Spawner
from .unavailable import reported

NAME = "bubblewrap"


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all sandboxes of a backend share."""

    rootfs: RootFs
    groups: ControlGroups
    seccomp: bytes


class BubblewrapBackend:
    """Makes sandboxes on this machine. `cache` holds the root filesystem, which is built when first needed.

    The workspace, /tmp and /dev/shm lie in memory and count against `memory_bytes`. Without `egress`, which it
    owns from here on, there is no way out.
    """

    def __init__(self, cache: Path | None = None, *, clock: Clock | None = None, egress: Egress | None = None) -> None:
        self._cache = cache or default_cache()
        self._clock = clock or SystemClock()
        self._egress = egress
        # A sandbox dies with the thread that started it: this one lives as long as the backend.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-starter")
        self._ground = Ground(lambda: _prepare(self._cache))
        self._spawner = Spawner()
        self._jails: set[Jail] = set()
        self._users = HostUsers()

    async def probe(self) -> Capability:
        return await reported(NAME, self._probe)

    async def create(self, limits: Limits) -> AgentSandbox:
        check_workspace_fits(limits)
        ground = await self._ground.get()
        sandbox, _ = await self._create(ground, limits)
        return sandbox

    async def build(self) -> str:
        return str((await self._ground.get()).rootfs.root)

    async def aclose(self) -> None:
        self._ground.close()
        if self._egress:
            self._egress.close()
        jails, self._jails = self._jails, set()
        async with asyncio.TaskGroup() as group:
            for jail in jails:
                group.create_task(asyncio.to_thread(jail.end))
        # With what was being started meanwhile, which is ended there as soon as it has.
        await asyncio.to_thread(self._starter.shutdown)
        await asyncio.to_thread(self._spawner.close)

    async def _probe(self) -> Capability:
        ground = await self._ground.get()
        sandbox, uid = await self._create(ground, CANARY_LIMITS)
        try:
            hidden = [*HIDDEN, str(ground.rootfs.root), str(self._cache), __file__]
            result = await sandbox.python(program(hidden), timeout_s=CANARY_LIMITS.command_s)
        finally:
            await sandbox.destroy()
        broken = list(findings(result.output))
        if uid == 0:
            broken.append(Missing("a host user other than root", "report this: bubblewrap was started as root"))
        if broken:
            return Capability(NAME, Level.NONE, missing=tuple(broken))
        # The number of processes is bound by a limit of the user namespace where no control group does it.
        limits = frozenset({"disk", "time", "output", "pids"}) | ground.groups.limits
        missing = tuple(gap for controller, gap in ground.groups.missing.items() if controller != "pids")
        domains = self._egress.rules.domains if self._egress else ()
        return Capability(NAME, Level.NAMESPACE, limits, missing, domains)

    async def _create(self, ground: _Shared, limits: Limits) -> tuple[AgentSandbox, int]:
        """A ready sandbox, and the host user that it runs as."""
        self._jails = {jail for jail in self._jails if not jail.ended}
        async with outlet_of(self._egress) as outlet:
            jail, channel, uid = await start_agent(
                self._starter, lambda control: self._start(ground, limits, control, outlet), _settle
            )
            return AgentSandbox(channel, jail, limits, clock=self._clock, way_out=outlet), uid

    def _start(self, ground: _Shared, limits: Limits, control: socket.socket, outlet: Outlet | None) -> Jail:
        group = None
        # Where a control group counts processes, it is the one that refuses, because it tells of it.
        processes = limits.pids + (2 if "pids" in ground.groups.places else 1)
        uid = self._users.take() if os.geteuid() == 0 else None
        with control:
            try:
                if outlet and uid is not None:
                    outlet.give_to(uid)
                group = ground.groups.create(limits)
                launch = Launch(
                    bwrap=ground.rootfs.bwrap,
                    options=_options(ground.rootfs, limits, outlet),
                    command=(ground.rootfs.python, "-I", "-c", agent_program(), str(processes)),
                    seccomp=ground.seccomp,
                    limits=process_limits(
                        file_bytes=limits.file_bytes,
                        open_files=limits.open_files,
                        address_space=None if "memory" in ground.groups.places else limits.memory_bytes,
                    ),
                    uid=uid,
                    group=group,
                )
                jail = Jail.start(launch, control, self._spawner, lifeline=self._starter)
            except BaseException:
                if group:
                    group.remove()
                raise
        self._jails.add(jail)
        return jail


def _prepare(cache: Path) -> _Shared:
    seccomp = filter_for()
    if seccomp is None:
        raise CannotBuild(f"a system call filter for {platform.machine()}", "use a machine with x86_64 or aarch64")
    groups = find_control_groups(Surroundings.of_this_process())
    groups.remove_leftovers()
    return _Shared(ensure_rootfs(cache), groups, seccomp)


def _options(rootfs: RootFs, limits: Limits, outlet: Outlet | None) -> list[str]:
    options = [
        "--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000",
        "--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox", "--clearenv",
    ]  # fmt: skip
    for name, value in environment(has_way_out=outlet is not None).items():
        options += ["--setenv", name, value]
    for name in ("usr", "etc"):
        options += ["--ro-bind", str(rootfs.root / name), f"/{name}"]
    for name in ("bin", "lib", "lib64"):
        if (rootfs.root / "usr" / name).is_dir():
            options += ["--symlink", f"usr/{name}", f"/{name}"]
    options += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
    for folder, size in writable_folders(limits):
        options += ["--size", str(size), "--tmpfs", folder]
    if outlet:
        options += ["--ro-bind", str(outlet.folder), FOLDER]
    # /dev is a tmpfs as well, and without this an unbounded one.
    return [*options, "--chdir", "/workspace", "--remount-ro", "/dev", "--remount-ro", "/"]


def _settle(jail: Jail) -> int:
    """The last steps before tool code may run. Returns the host user of the sandbox.

    The owner of its folder in /proc would show root, because the agent keeps others from looking in.
    """
    jail.limit_cpu()
    status = Path("/proc", str(jail.identify()), "status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:"))
