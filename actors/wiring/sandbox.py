"""How this machine makes sandboxes, and their limits."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core import telemetry
from ..core.clock import Clock, SystemClock
from ..core.errors import StoreUnavailable
from ..core.settings import Settings
from ..egress_handles import RemoteConnectionLog
from ..sandbox import host
from ..sandbox.base import Capability, LeasedSandboxes, Level, Missing, SandboxBackend, SandboxSpec
from ..sandbox.bubblewrap import BubblewrapBackend
from ..sandbox.egress import Egress
from ..sandbox.egress_base import Attempt, ConnectionLog, EgressLimits
from ..sandbox.egress_rules import EgressRules
from ..sandbox.first_fit import FirstFitBackend
from ..sandbox.gvisor import GvisorBackend
from ..sandbox.gvisor_runsc import version
from ..sandbox.rootfs import CannotBuild
from ..sandbox.unavailable import UnavailableSandboxes
from .limits import sandbox_limits
from .objects import workspaces


@asynccontextmanager
async def open_sandboxes(settings: Settings) -> AsyncGenerator[LeasedSandboxes]:
    """This machine's sandboxes; without isolation, ones that say why there are none."""
    if settings.sandbox == "none":
        off = Missing("sandboxes are switched off", "set GREENROOM_SANDBOX=auto")
        yield UnavailableSandboxes(Capability("none", Level.NONE, missing=(off,)))
        return
    clock = SystemClock()
    backend = sandbox_backend(settings, clock, log=RemoteConnectionLog(settings.namespace))
    opened = await host.open_sandboxes(
        backend,
        sandbox_spec(settings),
        clock=clock,
        require=required_level(settings),
        keeping=workspaces(settings, clock),
    )
    try:
        yield opened
    finally:
        if not isinstance(opened, UnavailableSandboxes):
            await opened.aclose()


def sandbox_backend(
    settings: Settings, clock: Clock | None = None, *, log: ConnectionLog | None = None
) -> SandboxBackend:
    """The way in which this machine makes sandboxes, as the settings choose it. They must not be switched off.

    Without a `log` for what they ask of the network, nothing that they ask of it is done.
    """
    log = log or _NoLog()

    def bubblewrap() -> SandboxBackend:
        return BubblewrapBackend(settings.sandbox_cache, clock=clock, egress=_egress(settings, log))

    def docker() -> SandboxBackend:
        # The SDK takes a quarter of a second to load, and is not needed where bubblewrap will do.
        from ..sandbox.docker import DockerBackend  # noqa: PLC0415

        return DockerBackend(
            settings.sandbox_cache,
            host=settings.sandbox_docker_host,
            image=settings.sandbox_docker_image,
            clock=clock,
            egress=_egress(settings, log),
        )

    def gvisor() -> SandboxBackend:
        return GvisorBackend(settings.sandbox_cache, clock=clock, domains=settings.sandbox_egress_domains)

    match settings.sandbox:
        case "bubblewrap":
            return bubblewrap()
        case "gvisor":
            return gvisor()
        case "docker":
            return docker()
        case _ if settings.sandbox_docker_image:
            return docker()  # nothing else could run it
        case _:
            return FirstFitBackend((bubblewrap, docker, gvisor), required_level(settings))


class _NoLog:
    async def record(self, session_id: str, attempt: Attempt) -> None:  # noqa: ARG002  the Protocol's
        raise StoreUnavailable("There is no audit of connections here.")


def _egress(settings: Settings, log: ConnectionLog) -> Egress | None:
    """None where no domain is allowed: then there is nothing that could let anything out."""
    if not settings.sandbox_egress_domains:
        return None
    return Egress(
        EgressRules.of(
            settings.sandbox_egress_domains, settings.sandbox_egress_ports, settings.sandbox_egress_networks
        ),
        log=log,
        limits=EgressLimits(
            connections=settings.sandbox_egress_connections,
            connections_total=settings.sandbox_egress_connections_total,
            total_bytes=settings.sandbox_egress_mb * 1024 * 1024,
            connect_s=settings.sandbox_egress_connect_s,
            idle_s=settings.sandbox_egress_idle_s,
        ),
        count_bytes=lambda direction, size: telemetry.EGRESS_BYTES.labels(direction).inc(size),
    )


def docker_version(settings: Settings) -> tuple[str, str]:
    """The version of docker's daemon and nothing; or what is missing and what would mend it. Blocks for seconds."""
    from ..sandbox.docker_engine import DockerEngine, EngineError  # noqa: PLC0415  as above

    try:
        with contextlib.closing(DockerEngine(settings.sandbox_docker_host)) as engine:
            return engine.facts().version, ""
    except EngineError as error:
        return error.missing.what, error.missing.fix


def gvisor_version() -> tuple[str, str]:
    """What gVisor's `runsc` calls itself, and nothing; or what is missing and what would mend it. Blocks a moment."""
    try:
        return version(), ""
    except CannotBuild as error:
        return error.missing.what, error.missing.fix


def required_level(settings: Settings) -> Level:
    return Level(settings.sandbox_min_level)


def sandbox_spec(settings: Settings) -> SandboxSpec:
    return SandboxSpec(
        sandbox_limits(settings),
        warm=settings.sandbox_warm,
        idle_s=settings.sandbox_idle_s,
        max_lease_s=settings.sandbox_max_lease_s,
        freeze_s=settings.sandbox_freeze_s,
        max_leased=settings.sandbox_max_leased,
        max_waiting=settings.sandbox_max_waiting,
        wait_s=settings.sandbox_wait_s,
        spare_s=settings.sandbox_spare_s,
    )
