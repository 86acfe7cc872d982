"""Actors over the machines of a cluster: a `Fleet` of session actors, and one sandbox actor for each machine.

They are detached: they outlive whoever made them, and are found by name. What Ray's head said last holds while it
is away; nothing is started or ended then.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import ray
import structlog
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .agent.host import HostStatus
from .core.clock import SystemClock
from .core.errors import AtCapacity, GreenroomError, NotHere, SessionLost, UnavailableError
from .core.settings import Settings
from .leave import Leaves
from .ray_errors import translated
from .register import SANDBOX_PREFIX, SESSION_PREFIX, HeadAway, Node, NotRegistered, Register, end_actor
from .sandbox_actor import SandboxActor
from .session_actor import SessionActor

DRAIN_S = 2.0
START_S = 30.0
WAKE_S = 10.0
WATCH_S = 60.0

RETIRE_S = 300.0
"""A machine that is about to leave, nobody knows when: its turns get so long to end."""

MOVE_S = 2.0
"""Before a machine leaves, this time is kept for turns that did not end there to go on elsewhere."""

SESSION_RESOURCE = "session_host"
"""A slot of this custom resource for each session actor: what a cluster's autoscaler counts."""

SANDBOX_RESOURCE = "sandbox"
"""A machine that offers it runs sandboxes."""

SERVING = {"greenroom": "!in(head,sandboxes)"}
"""By Ray's labels, where the directory, the memories and HTTP may be. Not on a machine with the label `greenroom=head`,
whose death would end them while nothing can be started; nor with `greenroom=sandboxes`, which has no way to the stores.
"""

_ray: Any = ray


class RayFleet:
    """A `Fleet` of session actors."""

    def __init__(self, settings: Settings, register: Register) -> None:
        self._settings = settings
        self._register = register
        self._leaves = Leaves(SystemClock())
        self._met: set[str] = set()
        self._places: dict[str, str] = {}
        self._names: tuple[str, ...] = ()
        self._nodes: tuple[Node, ...] = ()
        self._away = False
        self._logger = structlog.get_logger("greenroom.directory")

    async def names(self) -> tuple[str, ...]:
        try:
            self._names = await self._register.names(SESSION_PREFIX)
        except HeadAway:
            # One that was started since the last answer is among those that are watched.
            return tuple(sorted({*self._names, *self._places}))
        return self._names

    async def machines(self) -> dict[str, frozenset[str]]:
        if not (alive := await self._alive()):
            raise UnavailableError("nobody knows which machines there are")
        return {
            node.id: frozenset(name for name, place in self._places.items() if place == node.id)
            for node in alive
            if node.leaves_at is None and _offers(node, SESSION_RESOURCE)
        }

    async def leaving(self) -> dict[str, float]:
        now = time.time()  # noqa: TID251 - Ray tells deadlines by the wall clock
        going = {node.id: node.leaves_at - now for node in await self._alive() if node.leaves_at is not None}
        return {name: max(0.0, going[node]) for name, node in self._places.items() if node in going}

    async def _alive(self) -> tuple[Node, ...]:
        try:
            self._nodes = await self._register.nodes()
        except HeadAway as error:
            if not self._away:
                self._logger.warning("the fleet is as it was last known", reason=str(error))
            self._away = True
        else:
            self._away = False
        return self._nodes

    async def start(self) -> str:
        taken = set(await self.names())
        name = next(n for i in range(len(taken) + 1) if (n := f"{SESSION_PREFIX}{i}") not in taken)
        node = self._emptiest(await self._alive())
        actor: Any = None
        try:
            actor = await self._register.run(lambda: start_session_actor(name, self._settings, node))
            async with translated(SessionLost), asyncio.timeout(START_S):
                await actor.status.remote()
                self._places[name] = await actor.watch.remote(0)
        except HeadAway as error:
            raise AtCapacity(f"no session actor can be started: {error}") from error
        except (TimeoutError, GreenroomError) as error:
            end_actor(actor)
            raise AtCapacity(f"a new session actor did not start within {START_S:g} s") from error
        return name

    def _emptiest(self, nodes: tuple[Node, ...]) -> str | None:
        """The machine with the fewest session actors; None when each has as many as it may."""
        hosts = Counter(self._places.values())
        roomy = [
            (hosts[node.id], node.id)
            for node in nodes
            if node.leaves_at is None and hosts[node.id] < int(node.resources.get(SESSION_RESOURCE, 0))
        ]
        return min(roomy)[1] if roomy else None

    async def status(self, name: str) -> HostStatus | None:
        # One that never answered may still be starting. Another is asked again before it is given up.
        deadline_s = self._settings.session_silent_s if name in self._met else START_S
        try:
            async with translated(SessionLost), asyncio.timeout(deadline_s):
                status = await (await self._register.find(name)).status.remote()
                self._met.add(name)
                return status
        except SessionLost:
            self._register.doubt(name)
            raise
        except (GreenroomError, TimeoutError, NotRegistered, HeadAway):
            return None

    async def ended(self, name: str) -> None:
        try:
            async with translated(SessionLost):
                while True:
                    actor = await self._register.find(name)
                    # The first answer comes at once, the others only keep the question open.
                    known = name in self._places
                    self._places[name] = await actor.watch.remote(WATCH_S if known else 0)
        except (SessionLost, NotRegistered, HeadAway):
            self._register.doubt(name)
        finally:
            self._places.pop(name, None)

    async def wake(self, name: str, session_id: str) -> None:
        try:
            async with translated(SessionLost), asyncio.timeout(WAKE_S):
                until = self._leaves.until(name, WAKE_S)
                await (await self._register.find(name)).wake.remote(session_id, until=until)
        except NotHere as error:
            self._leaves.learn(name, error)
            raise
        except (TimeoutError, NotRegistered, HeadAway) as error:
            raise SessionLost(f"{name} does not answer") from error

    async def retire(self, name: str, *, within_s: float) -> None:
        grace_s = max(0.0, min(within_s, RETIRE_S) - MOVE_S)
        await self._end(name, grace_s)

    async def stop(self, name: str) -> None:
        await self._end(name, 0.0)

    async def _end(self, name: str, grace_s: float) -> None:
        try:
            actor = await self._register.find(name)
        except (NotRegistered, HeadAway):
            return
        try:
            async with translated(SessionLost), asyncio.timeout(grace_s + DRAIN_S):
                await actor.drain.remote(grace_s=grace_s)
        except (GreenroomError, TimeoutError) as error:
            self._logger.warning("host not drained", host=name, error=str(error))
        end_actor(actor)


class SandboxFleet:
    """A sandbox actor on each machine that offers sandboxes, and none for machines that are gone."""

    def __init__(self, settings: Settings, register: Register) -> None:
        self._settings = settings
        self._register = register

    async def tend(self) -> None:
        """One round of care. Does nothing while the head of the cluster is away."""
        try:
            nodes = await self._register.nodes()
            names = set(await self._register.names(SANDBOX_PREFIX))
            wanted = {f"{SANDBOX_PREFIX}{node.id}": node for node in nodes if _offers(node, SANDBOX_RESOURCE)}
            for name in names - wanted.keys():
                end_actor(await self._register.find(name))
            for name in wanted.keys() - names:
                if wanted[name].leaves_at is None:
                    node = wanted[name].id
                    await self._register.run(lambda node=node: start_sandbox_actor(node, self._settings))
        except (HeadAway, NotRegistered):
            return  # the next round knows more


def _offers(node: Node, resource: str) -> bool:
    return node.resources.get(resource, 0) >= 1


def start_session_actor(name: str, settings: Settings, node_id: str | None = None) -> Any:
    """Create a session actor, or find the one of that name. Does not wait until it is there.

    It starts on that machine if it can. When no machine has room it waits for one, and an autoscaler sees it waiting.
    """
    # Ray's own SPREAD takes turns among machines, and does not see what is there already.
    spread = "SPREAD" if node_id is None else NodeAffinitySchedulingStrategy(node_id, soft=True)
    return SessionActor.options(
        name=name,
        max_concurrency=10_000,
        resources={SESSION_RESOURCE: 1},
        scheduling_strategy=spread,
        **lasting(settings),
    ).remote(settings)


def start_sandbox_actor(node_id: str, settings: Settings) -> Any:
    """Create a machine's sandbox actor, or find it. It ends for good with its machine. Does not wait for it."""
    return SandboxActor.options(
        name=f"{SANDBOX_PREFIX}{node_id}",
        max_concurrency=1_000,
        resources={SANDBOX_RESOURCE: 1},
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        **lasting(settings),
    ).remote(settings)


def lasting(settings: Settings) -> dict[str, Any]:
    """Options of an actor that Ray starts again whenever it ends by itself, on whatever machine has room."""
    return {
        "namespace": settings.namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": 0,
    }
