# No `from __future__ import annotations` here: Serve reads these annotations at run time, and would
# hand a builder a plain dict where it sees a string (a test guards it).
# Ray ships few types; what it returns is narrowed where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The Serve deployment: an HTTP replica over the runtime's actors. The only file that uses Ray Serve."""

import asyncio
import functools
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import BackpressureConfig
from starlette.types import ASGIApp

from actors.core import telemetry
from actors.core.errors import GreenroomError
from actors.core.settings import Settings
from actors.ray_fleet import SERVING
from actors.register import HeadAway, Register
from actors.sandbox.base import Level
from actors.wiring.api import ApiParts, open_api
from actors.wiring.models import model_source
from actors.wiring.sessions import tool_names

from . import health
from .api import create_api
from .problems import RETRY_AFTER_S
from .services import CheckResult, Services

APP = "greenroom"
DEPLOYMENT = "Api"
SCRAPE_S = 2.0

_REPLICAS = f"SERVE_REPLICA::{APP}#{DEPLOYMENT}#"
"""How Ray Serve names the actors of replicas, in a namespace of its own."""


class Api:
    """A replica: opens its parts when it starts, serves the ASGI application, closes them at the end."""

    async def __init__(self, settings: Settings) -> None:
        telemetry.configure_logging(settings.log_level)
        self._stack = AsyncExitStack()
        self._parts = await self._stack.enter_async_context(open_api(settings))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_asgi(self._parts, _process(serve.get_replica_context().replica_id.unique_id))

    async def check_health(self) -> None:
        """Serve replaces a replica that raises here. User code runs on this loop, so answering is the proof."""

    async def __del__(self) -> None:
        await self._stack.aclose()


def build_asgi(parts: ApiParts, process: str) -> FastAPI:
    """The HTTP application over cluster parts."""
    scrape = Scrape(parts.settings.namespace)
    services = Services(
        settings=parts.settings,
        clock=parts.clock,
        new_id=parts.new_id,
        sessions=parts.sessions,
        sandboxes=parts.sandboxes,
        workspaces=parts.workspaces,
        book=parts.book,
        approvals=parts.approvals,
        costs=parts.costs,
        keys=parts.keys,
        llm=parts.llm,
        started=parts.clock.monotonic(),
        version=version("greenroom"),
        tools=tool_names(parts.settings, parts.clock),
        checks=Checks(parts).all(),
        process=process,
        scrape=scrape,
    )
    return create_api(services)


class Checks:
    """What `/health` and `/ready` ask."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    def all(self) -> tuple[Any, ...]:
        return (
            self.check_database,
            self.check_sessions,
            self.check_cluster,
            self.check_sandbox,
            self.check_memory,
            self.check_model,
        )

    async def check_database(self) -> CheckResult:
        await self._parts.database.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
        return CheckResult("database", "healthy", self._parts.database.engine.dialect.name)

    async def check_sessions(self) -> CheckResult:
        status = await self._parts.sessions.directory.status()
        if not status.hosts:
            return CheckResult("sessions", "unhealthy", "no session actor is there")
        message = f"{status.sessions} sessions in {len(status.hosts)} session actors"
        if len(status.silent) == len(status.hosts):
            return CheckResult("sessions", "unhealthy", "no session actor answers")
        if status.silent:
            return CheckResult("sessions", "warning", f"{message}; silent: {', '.join(status.silent)}")
        return CheckResult("sessions", "healthy", message)

    async def check_cluster(self) -> CheckResult:
        try:
            nodes = await self._parts.sessions.register.nodes()
        except HeadAway as error:
            return CheckResult("cluster", "warning", f"{error}; what runs goes on, and no process can be started")
        leaving = sum(1 for node in nodes if node.leaves_at is not None)
        message = f"{len(nodes)} machines" if len(nodes) > 1 else "one machine"
        return CheckResult("cluster", "healthy", f"{message}, {leaving} about to leave" if leaving else message)

    async def check_sandbox(self) -> CheckResult:
        try:
            async with asyncio.timeout(health.CHECK_S / 2):
                capability = (await self._parts.sandboxes.status()).capability
        except TimeoutError:
            return CheckResult("sandbox", "warning", "the sandbox actor is still loading", loading=True)
        except GreenroomError as error:
            return CheckResult("sandbox", "warning", f"tools that run code are off: {error.message}")
        lacks = "; ".join(f"{missing.what} ({missing.fix})" for missing in capability.missing)
        if capability.level is Level.NONE:
            return CheckResult("sandbox", "warning", f"tools that run code are off: {lacks}")
        egress = ", ".join(capability.egress) or "none"
        message = f"{capability.backend}, isolation level {capability.level}; egress: {egress}"
        return CheckResult(
            "sandbox", "warning" if lacks else "healthy", f"{message}; missing: {lacks}" if lacks else message
        )

    async def check_memory(self) -> CheckResult:
        try:
            async with asyncio.timeout(health.CHECK_S / 2):
                await self._parts.memories.ping()
        except TimeoutError:
            return CheckResult("memory", "warning", "the memory actor is still loading", loading=True)
        except GreenroomError as error:
            return CheckResult("memory", "warning", f"remember and recall are off: {error.message}")
        return CheckResult("memory", "healthy", "LanceDB")

    async def check_model(self) -> CheckResult:
        # Not asked over the network: a gateway that is down must not take every replica out of service.
        message = f"{self._parts.llm.default_model} at {model_source(self._parts.settings)}"
        try:
            async with asyncio.timeout(health.CHECK_S / 2):
                impaired = (await self._parts.sessions.directory.status()).impaired
        except (TimeoutError, GreenroomError):
            impaired = ()  # that the directory does not answer is said elsewhere
        if impaired:
            return CheckResult("model", "warning", f"{message}; failing, and left alone: {', '.join(impaired)}")
        return CheckResult("model", "healthy", message)


class Scrape:
    """The expositions of every actor and every replica that answers in time."""

    def __init__(self, namespace: str) -> None:
        self._actors = Register(namespace)
        self._replicas = Register("serve")

    async def __call__(self) -> dict[str, bytes]:
        async with asyncio.TaskGroup() as group:
            actors = group.create_task(_all(self._actors, ""))
            replicas = group.create_task(_all(self._replicas, _REPLICAS))
        async with asyncio.TaskGroup() as group:
            asked = {
                name: group.create_task(_exposition(actor.metrics.remote)) for name, actor in actors.result().items()
            }
            for name, replica in replicas.result().items():
                ask = functools.partial(replica.__ray_call__.remote, _own_exposition)
                asked[_process(name.removeprefix(_REPLICAS))] = group.create_task(_exposition(ask))
        return {name: text for name, task in asked.items() if (text := task.result()) is not None}


def _process(replica: str) -> str:
    return f"api:{replica}"


async def _all(register: Register, prefix: str) -> dict[str, Any]:
    try:
        return await register.all(prefix)
    except HeadAway:
        return {}


async def _exposition(ask: Callable[[], Any]) -> bytes | None:
    try:
        async with asyncio.timeout(SCRAPE_S):
            return await ask()
    except (TimeoutError, RayError):
        return None


def _own_exposition(_replica: object) -> bytes:
    return telemetry.exposition()


def build(settings: Settings) -> serve.Application:
    """The application for `serve.run`, and for `serve deploy` with its settings as arguments."""
    ingress: Any = serve.ingress()
    deployment: Any = serve.deployment(
        ingress(Api),
        name=DEPLOYMENT,
        num_replicas=1,
        max_ongoing_requests=2_000,
        ray_actor_options={"num_cpus": 0, "label_selector": SERVING},
        backpressure_config=BackpressureConfig(retry_after_s=RETRY_AFTER_S),
        graceful_shutdown_timeout_s=20,
        health_check_period_s=10,
    )
    return deployment.bind(settings)
