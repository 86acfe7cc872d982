"""DirectoryActor: places sessions and tends the fleet. A shell round `agent/directory.py`, and its Ray fleet."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, cast

import ray
import structlog

from .agent.directory import Directory, FleetStatus
from .agent.host import HostStatus
from .agent.upkeep import Upkeep
from .core import telemetry
from .core.clock import SystemClock
from .core.errors import AtCapacity, SessionLost
from .core.opened import Opened
from .core.settings import Settings
from .handles import SESSION_PREFIX, actor_named, end_actor, named_actors, translated
from .session_actor import SessionActor
from .wiring.store import open_journal

TEND_S = 1.0
STATUS_S = 2.0
START_S = 30.0
HOST_RESOURCE = "session_host"
"""A slot of this custom resource for each session actor: what a cluster's autoscaler counts."""


class RayFleet:
    """A `Fleet` of session actors. They are detached: they outlive this actor, which finds them by name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._namespace = settings.namespace
        self._met: set[str] = set()

    async def names(self) -> tuple[str, ...]:
        return tuple(sorted(named_actors(SESSION_PREFIX, self._namespace)))

    async def nodes(self) -> int:
        nodes = cast("list[dict[str, Any]]", ray.nodes())
        return sum(1 for node in nodes if node["Alive"] and node["Resources"].get(HOST_RESOURCE, 0) >= 1)

    async def start(self) -> str:
        taken = set(await self.names())
        name = next(n for i in range(len(taken) + 1) if (n := f"{SESSION_PREFIX}{i}") not in taken)
        actor = start_session_actor(name, self._settings)
        try:
            async with translated(SessionLost), asyncio.timeout(START_S):
                await actor.status.remote()
        except (TimeoutError, SessionLost) as error:
            end_actor(actor)
            raise AtCapacity(f"a new session actor did not start within {START_S:g} s") from error
        return name

    async def status(self, name: str) -> HostStatus | None:
        # One that never answered may still be starting.
        deadline_s = STATUS_S if name in self._met else START_S
        try:
            async with translated(SessionLost), asyncio.timeout(deadline_s):
                status = await actor_named(name, self._namespace).status.remote()
                self._met.add(name)
                return status
        except (SessionLost, TimeoutError, ValueError):
            return None

    async def wake(self, name: str, session_id: str) -> None:
        try:
            async with translated(SessionLost), asyncio.timeout(START_S):
                await actor_named(name, self._namespace).wake.remote(session_id)
        except (TimeoutError, ValueError) as error:
            raise SessionLost(f"{name} does not answer") from error

    async def stop(self, name: str) -> None:
        try:
            actor = actor_named(name, self._namespace)
        except ValueError:
            return
        try:
            async with translated(SessionLost), asyncio.timeout(STATUS_S):
                await actor.drain.remote(grace_s=0)
        except (SessionLost, TimeoutError) as error:
            structlog.get_logger("greenroom.directory").warning("host not drained", host=name, error=str(error))
        end_actor(actor)


def start_session_actor(name: str, settings: Settings) -> Any:
    """Create a session actor, or find the one of that name. Does not wait until it is there."""
    return SessionActor.options(
        name=name,
        namespace=settings.namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=10_000,
        num_cpus=0,
        resources={HOST_RESOURCE: 1},
        scheduling_strategy="SPREAD",
    ).remote(settings)


@ray.remote
class DirectoryActor:
    """See `Directory` for what the methods promise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._directory = Opened(self._open)
        self._tending: asyncio.Task[None] | None = None

    async def _open(self) -> Directory:
        telemetry.configure_logging(self._settings.log_level)
        settings = self._settings
        journal = await self._stack.enter_async_context(open_journal(settings))
        directory = Directory(
            RayFleet(settings),
            journal,
            warm_per_node=settings.session_actors_per_node,
            max_per_node=settings.session_actors_max_per_node,
            sessions_per_host=settings.sessions_per_actor,
        )
        await directory.look()
        upkeep = Upkeep(journal, directory.wake, clock=SystemClock(), retention_days=settings.retention_days)
        self._tending = asyncio.create_task(self._tend(directory, upkeep))
        return directory

    async def _tend(self, directory: Directory, upkeep: Upkeep) -> None:
        logger = structlog.get_logger("greenroom.directory")
        while True:
            try:
                await directory.tend()
                await upkeep.round()
            except Exception:  # one bad round, e.g. a database that restarts, must not end the care
                logger.exception("round of care failed")
            await asyncio.sleep(TEND_S)

    async def locate(self, session_id: str, *, failed: str | None, new: bool) -> str:
        return await (await self._directory.get()).locate(session_id, failed=failed, new=new)

    async def status(self) -> FleetStatus:
        return (await self._directory.get()).status()

    async def metrics(self) -> bytes:
        return telemetry.exposition()

    async def drain(self) -> None:
        """Stop tending, so that hosts which are ended on purpose are not started again."""
        if self._tending is not None:
            self._tending.cancel()
        await self._stack.aclose()
