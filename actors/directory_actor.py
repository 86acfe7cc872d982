"""DirectoryActor: places sessions and tends the fleet. A shell round `agent/directory.py`."""

import asyncio
from contextlib import AsyncExitStack

import ray

from .agent.directory import Directory
from .agent.fleet import FleetStatus
from .agent.upkeep import Upkeep
from .core import telemetry
from .core.clock import SystemClock
from .core.opened import Opened
from .core.rounds import repeat
from .core.settings import Settings
from .ray_fleet import RayFleet, SandboxFleet
from .register import Register
from .wiring.rounds import TEND_S, Rounds, open_rounds
from .wiring.store import open_journal


@ray.remote
class DirectoryActor:
    """See `Directory` for what the methods promise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._directory = Opened(self._open)
        self._tending: list[asyncio.Task[None]] = []

    async def _open(self) -> Directory:
        telemetry.configure_logging(self._settings.log_level)
        settings = self._settings
        journal = await self._stack.enter_async_context(open_journal(settings))
        clock, register = SystemClock(), Register(settings.namespace)
        directory = Directory(
            RayFleet(settings, register),
            journal,
            clock=clock,
            warm_per_node=settings.session_actors_per_node,
            max_per_node=settings.session_actors_max_per_node,
            sessions_per_host=settings.sessions_per_actor,
            silent_s=settings.session_silent_s,
        )
        self._stack.callback(directory.close)
        await directory.look()
        upkeep = Upkeep(journal, directory.wake, clock=clock, retention_days=settings.retention_days)
        sandboxes = SandboxFleet(settings, register)
        # Apart from one another: a host that takes long to start must not keep cut off turns waiting.
        rounds: Rounds = {
            "keep warm": (directory.keep_warm, TEND_S),
            "upkeep": (upkeep.round, TEND_S),
            "sandboxes": (sandboxes.tend, TEND_S),
            **await self._stack.enter_async_context(open_rounds(settings, clock)),
        }
        self._tending = [
            asyncio.create_task(repeat(directory.rescue, lambda: directory.rest(TEND_S), name="rescue")),
            *(
                asyncio.create_task(repeat(one, lambda rest_s=rest_s: clock.sleep(rest_s), name=name))
                for name, (one, rest_s) in rounds.items()
            ),
        ]
        return directory

    async def locate(
        self, session_id: str, *, failed: str | None, refused: str | None, full: tuple[str, ...], new: bool
    ) -> str:
        directory = await self._directory.get()
        return await directory.locate(session_id, failed=failed, refused=refused, full=full, new=new)

    async def status(self) -> FleetStatus:
        return (await self._directory.get()).status()

    async def watch(self, wait_s: float) -> str:
        """The id of this process's machine, after so long: a call that fails as soon as the process ends."""
        await asyncio.sleep(wait_s)
        return ray.get_runtime_context().get_node_id()

    async def metrics(self) -> bytes:
        return telemetry.exposition()

    async def drain(self) -> None:
        """Stop tending, so that hosts which are ended on purpose are not started again."""
        for tending in self._tending:
            tending.cancel()
        await self._stack.aclose()
