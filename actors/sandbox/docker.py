"""Sandboxes by docker: hardened containers with the same agent inside, spoken to over one attached connection.

What bubblewrap's sandboxes hold in place holds here too: no network, a read-only root, our own system call
filter, limits, and a host user of each sandbox's own. The files, the agent and its protocol are the same.
"""

import asyncio
import contextlib
import platform
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..core.clock import Clock, SystemClock
from . import owners
from .agent_sandbox import AgentSandbox
from .agent_start import connect
from .base import Capability, Level, Limits, Missing
from .canary import HIDDEN, diagnose, findings, program
from .cgroups import Surroundings, group_of
from .channel import AgentChannel, ChannelClosed
from .docker_container import Container, host_config
from .docker_engine import DEFAULT_HOST, DockerEngine, EngineError, EngineFacts, ImageGone, cannot_build
from .docker_image import Image, drop_old_images, ensure_image, ensure_own_image
from .docker_seccomp import profile_for
from .docker_streams import ContainerStreams
from .egress import Egress, Outlet, outlet_of
from .ground import Ground
from .host_users import HostUsers
from .interior import CANARY_LIMITS, WORKSPACE, agent_program, check_workspace_fits, environment
from .room import Room
from .rootfs import CannotBuild, default_cache
from .unavailable import reported, unavailable

NAME = "docker"
LABEL = "greenroom.sandbox"
"""On every container of ours; its value names the process that made it."""

_STARTS_AT_ONCE = 2
"""More do not come any sooner: a start keeps the daemon busy for a fifth of a second."""
_THREADS = 8
_REMAPPED_UID = 1000
_REMAPPED_PIDS = 65_536


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all sandboxes of a backend share."""

    engine: DockerEngine
    facts: EngineFacts
    image: Image
    seccomp: str


class DockerBackend:
    """Makes sandboxes by the daemon at `host`, of our own image or with the agent in the user's `image`.

    The workspace, /tmp and /dev/shm lie in memory and count against `memory_bytes`. When the process that
    made them dies, the agents end with their connections; what is left all the same is removed by the next.
    Without `egress`, which it owns from here on, there is no way out.
    """

    def __init__(
        self,
        cache: Path | None = None,
        *,
        host: str = DEFAULT_HOST,
        image: str | None = None,
        clock: Clock | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._cache = cache or default_cache()
        self._host = host
        self._own_image = image
        self._clock = clock or SystemClock()
        self._egress = egress
        self._owner = owners.this_process()
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="docker")
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._ground = Ground(self._get_ready, self._threads)
        self._containers: set[Container] = set()
        self._users = HostUsers()
        self._closed = False

    async def probe(self) -> Capability:
        return await reported(NAME, self._probe)

    async def build(self) -> str:
        return (await self._ground.get()).image.name

    async def create(self, limits: Limits) -> AgentSandbox:
        check_workspace_fits(limits)
        try:
            sandbox, _, _ = await self._create(await self._ground.get(), limits)
        except ImageGone:
            # Somebody has tidied up. It is made again.
            self._ground.forget()
            sandbox, _, _ = await self._create(await self._ground.get(), limits)
        return sandbox

    async def aclose(self) -> None:
        self._closed = True
        if self._egress:
            self._egress.close()
        ground = self._ground.close()
        containers, self._containers = self._containers, set()
        async with asyncio.TaskGroup() as group:
            for container in containers:
                group.create_task(asyncio.to_thread(container.end))
        self._threads.shutdown(wait=False)
        if ground:
            await asyncio.to_thread(ground.engine.close)

    async def _probe(self) -> Capability:
        ground = await self._ground.get()
        sandbox, container, uid = await self._create(ground, CANARY_LIMITS)
        try:
            ours = () if ground.image.is_own else HIDDEN
            hidden = [*ours, *ground.image.hidden, "/sys", str(self._cache), __file__]
            result = await sandbox.python(program(hidden, uid=uid), timeout_s=CANARY_LIMITS.command_s)
        finally:
            await sandbox.destroy()
        broken = findings(result.output)
        if broken:
            return Capability(NAME, Level.NONE, missing=broken)
        missing = list(ground.facts.missing)
        if not container.counts_memory:
            fix = "run Greenroom where the daemon runs and not in a container, with the control groups in sight"
            missing.append(Missing("the count of what was ended for memory, so that it is told as what it is", fix))
        limits = frozenset({"disk", "time", "output", "freeze"}) | ground.facts.limits
        domains = self._egress.rules.domains if self._egress else ()
        return Capability(NAME, Level.CONTAINER, limits, tuple(missing), domains)

    def _get_ready(self) -> _Shared:
        seccomp = profile_for()
        if seccomp is None:
            raise CannotBuild(f"a system call filter for {platform.machine()}", "use a machine with x86_64 or aarch64")
        try:
            return self._meet(seccomp)
        except EngineError as error:
            raise cannot_build(error) from error

    def _meet(self, seccomp: str) -> _Shared:
        engine = DockerEngine(self._host)
        try:
            for container, owner in engine.containers(LABEL).items():
                if owners.is_gone(owner):
                    engine.remove(container)
            image = ensure_own_image(engine, self._own_image) if self._own_image else ensure_image(engine, self._cache)
            drop_old_images(engine, image)
            return _Shared(engine, engine.facts(), image, seccomp)
        except BaseException:
            engine.close()
            raise

    async def _create(self, ground: _Shared, limits: Limits) -> tuple[AgentSandbox, Container, int]:
        """A ready sandbox, its container, and the user that it runs as."""
        async with outlet_of(self._egress) as outlet:
            return await self._create_with(outlet, ground, limits)

    async def _create_with(
        self, outlet: Outlet | None, ground: _Shared, limits: Limits
    ) -> tuple[AgentSandbox, Container, int]:
        self._containers = {container for container in self._containers if not container.ended}
        uid = _REMAPPED_UID if ground.facts.remaps_users else self._users.take()
        async with self._starts:
            starting = self._threads.submit(self._start, ground, limits, uid, outlet)
            try:
                container, streams = await asyncio.shield(asyncio.wrap_future(starting))
            except asyncio.CancelledError:
                starting.add_done_callback(self._end_unwanted)
                raise
            except ImageGone:
                raise
            except EngineError as error:
                raise unavailable(error.missing) from error
            channel = AgentChannel()
            frames = ContainerStreams(channel)
            try:
                await connect(streams, frames, channel)
            except BaseException as error:
                await asyncio.shield(asyncio.to_thread(container.end))
                if isinstance(error, ChannelClosed | TimeoutError | OSError):
                    raise unavailable(diagnose(frames.words or str(error))) from error
                raise
        return AgentSandbox(channel, container, limits, clock=self._clock, way_out=outlet), container, uid

    def _start(
        self, ground: _Shared, limits: Limits, uid: int, outlet: Outlet | None
    ) -> tuple[Container, socket.socket]:
        if outlet:
            # Within a remapped range nobody here knows which host user it will be.
            outlet.give_to(None if ground.facts.remaps_users else uid)
        # Among users of a remapped range the number of processes would be counted over all sandboxes together.
        # Else one more than the control group's, which then is the one that refuses, and counts it.
        processes = _REMAPPED_PIDS if ground.facts.remaps_users else limits.pids + 2
        started = ground.engine.start(
            ground.image.name,
            [ground.image.python, "-I", "-c", agent_program(answers_fd=1), str(processes)],
            host_config(limits, uid=uid, seccomp=ground.seccomp, way_out=outlet.folder if outlet else None),
            user=f"{uid}:{uid}",
            working_dir=WORKSPACE,
            hostname="sandbox",
            stop_signal="SIGKILL",  # the agent hears no other, and whoever stops a container would wait for it
            environment=environment(has_way_out=outlet is not None, is_own_root=not ground.image.is_own),
            network_disabled=True,
            labels={LABEL: self._owner},
        )
        group = group_of(started.pid, started.id, Surroundings.of_this_process())
        # Only of a group that bears its name: the number of its process may be that of another place's numbering.
        container = Container(ground.engine, started.id, group, Room.of(started.pid) if group else None)
        self._containers.add(container)
        if self._closed:
            started.streams.close()
            container.end()
        return container, started.streams

    def _end_unwanted(self, starting: "Future[tuple[Container, socket.socket]]") -> None:
        if not starting.cancelled() and not starting.exception():
            container, streams = starting.result()
            streams.close()
            with contextlib.suppress(RuntimeError):  # the backend is closed and has ended it
                self._threads.submit(container.end)
