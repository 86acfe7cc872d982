"""Emptying a machine before it leaves the cluster: its turns end there if they can, and go on elsewhere if not."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.core.generated import autoscaler_pb2

from .core.errors import GreenroomError, UnavailableError
from .core.settings import Settings
from .ray_errors import translated
from .register import (
    DIRECTORY,
    MEMORY,
    SANDBOX_PREFIX,
    SESSION_PREFIX,
    HeadAway,
    NotRegistered,
    Register,
    end_actor,
)

POLL_S = 0.25
CALL_S = 5.0
SAVE_S = 30.0
"""The workspaces of a machine have at least so long to be saved, also when time is up."""


_ray: Any = ray
_REASONS: Any = autoscaler_pb2


@dataclass(frozen=True, slots=True)
class Vacated:
    """What became of a machine's session actors. `left` are those that were still there when time was up."""

    hosts: tuple[str, ...]
    left: tuple[str, ...]
    took_s: float


async def vacate(settings: Settings, node_id: str, *, within_s: float) -> Vacated:
    """Tell Ray that the machine is to leave, and wait until nothing of Greenroom is needed there.

    Ray starts nothing there any more; the directory sees it and drains the machine's session actors. What no
    session depends on, the directory itself and the memories, starts again elsewhere at once.
    Raises `UnavailableError` when Ray does not agree or its head does not answer.
    """
    begun, register = time.monotonic(), Register(settings.namespace)
    try:
        await register.run(lambda: _drain(node_id, within_s))
        hosts = left = await _on(node_id, register, await register.names(SESSION_PREFIX))
        while left and time.monotonic() < begun + within_s:
            await asyncio.sleep(POLL_S)
            left = await _on(node_id, register, left)
        for name in await _on(node_id, register, (DIRECTORY, MEMORY)):
            await _restart(await register.find(name))
        for name in await register.names(SANDBOX_PREFIX + node_id):
            await _give_up(await register.find(name), max(SAVE_S, begun + within_s - time.monotonic()))
    except (HeadAway, NotRegistered) as error:
        raise UnavailableError(f"the machine could not be emptied: {error}") from error
    return Vacated(hosts, left, time.monotonic() - begun)


def _drain(node_id: str, within_s: float) -> None:
    deadline_ms = int((time.time() + within_s) * 1000)  # noqa: TID251 - Ray takes deadlines by the wall clock
    client: Any = _ray._private.worker.global_worker.gcs_client  # noqa: SLF001 - Ray has no public way
    # Preemption is the reason that Ray does not refuse while something runs there.
    reason = _REASONS.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    agreed, why = client.drain_node(node_id, reason, "the machine leaves the cluster", deadline_ms)
    if not agreed:
        raise UnavailableError(f"Ray does not drain the machine: {why}")


async def _on(node_id: str, register: Register, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the actors that are there on that machine."""

    async def ask(name: str) -> bool:
        try:
            async with translated(UnavailableError), asyncio.timeout(CALL_S):
                return await (await register.find(name)).watch.remote(0) == node_id
        except (GreenroomError, TimeoutError, NotRegistered):
            register.doubt(name)
            return False
        except HeadAway:
            return True  # nobody knows now: it is asked for again while there is time

    async with asyncio.TaskGroup() as group:
        asked = {name: group.create_task(ask(name)) for name in names}
    return tuple(name for name, task in asked.items() if task.result())


async def _give_up(sandboxes: Any, within_s: float) -> None:
    """End a machine's sandboxes once their workspaces are kept for the next sandboxes of their sessions."""
    try:
        async with translated(UnavailableError), asyncio.timeout(within_s):
            await sandboxes.drain.remote()
    except (GreenroomError, TimeoutError):
        pass  # what was not kept by now is lost, and said to be
    end_actor(sandboxes)


async def _restart(actor: Any) -> None:
    try:
        async with translated(UnavailableError), asyncio.timeout(CALL_S):
            await actor.drain.remote()
    except (GreenroomError, TimeoutError):
        pass  # it is ended next, and its successor reads what was written
    _ray.kill(actor, no_restart=False)
