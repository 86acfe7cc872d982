"""How this machine makes sandboxes, and their limits."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ..core.clock import Clock, SystemClock
from ..core.settings import Settings
from ..sandbox import host
from ..sandbox.base import Capability, Level, Missing, SandboxBackend, Sandboxes, SandboxSpec
from ..sandbox.bubblewrap import BubblewrapBackend
from ..sandbox.unavailable import UnavailableSandboxes
from .limits import sandbox_limits


@asynccontextmanager
async def open_sandboxes(settings: Settings) -> AsyncGenerator[Sandboxes]:
    """This machine's sandboxes; without isolation, ones that say why there are none."""
    if settings.sandbox == "none":
        off = Missing("sandboxes are switched off", "set GREENROOM_SANDBOX=auto")
        yield UnavailableSandboxes(Capability("none", Level.NONE, missing=(off,)))
        return
    clock = SystemClock()
    backend = sandbox_backend(settings.sandbox_cache, clock)
    opened = await host.open_sandboxes(backend, sandbox_spec(settings), clock=clock)
    try:
        yield opened
    finally:
        if not isinstance(opened, UnavailableSandboxes):
            await opened.aclose()


def sandbox_backend(cache: Path | None = None, clock: Clock | None = None) -> SandboxBackend:
    """The way in which this machine makes sandboxes."""
    return BubblewrapBackend(cache, clock=clock)


def sandbox_spec(settings: Settings) -> SandboxSpec:
    return SandboxSpec(
        sandbox_limits(settings),
        warm=settings.sandbox_warm,
        idle_s=settings.sandbox_idle_s,
        max_leased=settings.sandbox_max_leased,
    )
