"""Starting and stopping the actors of the runtime, for whoever owns the cluster's life."""

import asyncio
from typing import Any

from .core.errors import GreenroomError, UnavailableError
from .core.settings import Settings
from .directory_actor import DirectoryActor
from .memory_actor import MemoryActor
from .ray_errors import translated
from .ray_fleet import SERVING, SandboxFleet, lasting, start_session_actor
from .register import DIRECTORY, MEMORY, SANDBOX_PREFIX, SESSION_PREFIX, Register, end_actor, named_actors

START_S = 60.0


async def start_actors(settings: Settings) -> None:
    """Create every actor of this machine's cluster, or find it, and wait until sessions can be served.

    Raises `UnavailableError` with the reason. Memory and sandboxes may still be loading afterwards.
    """
    options = {**lasting(settings), "label_selector": SERVING}
    # One process after the other is quickest on few cores, and these two are all that a message needs: the
    # directory starts the rest of its fleet, and the first tool waits for the sandboxes if it must.
    start_session_actor(f"{SESSION_PREFIX}0", settings)
    directory: Any = DirectoryActor.options(name=DIRECTORY, max_concurrency=10_000, **options).remote(settings)
    try:
        async with translated(UnavailableError), asyncio.timeout(START_S):
            await directory.status.remote()
    except TimeoutError as error:
        raise UnavailableError(f"the directory actor did not start within {START_S:g} s") from error
    # The first of the directory's rounds, which keep a sandbox actor on each machine that offers sandboxes.
    await SandboxFleet(settings, Register(settings.namespace)).tend()
    MemoryActor.options(name=MEMORY, max_concurrency=1_000, **options).remote(settings)


async def warm_actors(settings: Settings) -> None:
    """Begin to load what the first use would otherwise wait for: the memory's vectors and its embedder."""
    for actor in named_actors(MEMORY, settings.namespace).values():
        actor.load.remote()


async def stop_actors(settings: Settings, *, grace_s: float) -> None:
    """Let running turns end for `grace_s`, then stop every actor. What did not end goes on at the next start."""
    namespace = settings.namespace
    # The directory first, or it would start again what is stopped here; sandboxes after their users.
    await _stop(named_actors(DIRECTORY, namespace), grace_s)
    await _stop(named_actors(SESSION_PREFIX, namespace), grace_s, grace_s=grace_s)
    await _stop({**named_actors(SANDBOX_PREFIX, namespace), **named_actors(MEMORY, namespace)}, grace_s)


async def _stop(actors: dict[str, Any], wait_s: float, **kwargs: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        for actor in actors.values():
            tasks.create_task(_drain(actor, wait_s + START_S / 4, kwargs))
    for actor in actors.values():
        end_actor(actor)


async def _drain(actor: Any, timeout_s: float, kwargs: dict[str, Any]) -> None:
    try:
        async with translated(UnavailableError), asyncio.timeout(timeout_s):
            await actor.drain.remote(**kwargs)
    except (GreenroomError, TimeoutError):
        return  # it is killed next: the journal says what it left unfinished
