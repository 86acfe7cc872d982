# No `from __future__ import annotations` here: Serve reads these annotations at run time, and would
# hand a builder a plain dict where it sees a string (a test guards it).
# Ray ships few types; what it returns is narrowed where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The Serve deployment: an HTTP replica over the runtime's actors. The only file that uses Ray Serve."""

import asyncio
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from starlette.types import ASGIApp

from actors.core import telemetry
from actors.core.errors import GreenroomError
from actors.core.settings import Settings
from actors.handles import DIRECTORY, MEMORY, SANDBOX_PREFIX, SESSION_PREFIX, named_actors
from actors.sandbox.base import Level
from actors.wiring.api import ApiParts, open_api
from actors.wiring.models import model_source

from . import health
from .api import create_api
from .services import CheckResult, Services

APP = "greenroom"
SCRAPE_S = 2.0


class Api:
    """A replica: opens its parts when it starts, serves the ASGI application, closes them at the end."""

    async def __init__(self, settings: Settings) -> None:
        telemetry.configure_logging(settings.log_level)
        self._stack = AsyncExitStack()
        self._parts = await self._stack.enter_async_context(open_api(settings))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return build_asgi(self._parts)

    async def check_health(self) -> None:
        """Serve replaces a replica that raises here. User code runs on this loop, so answering is the proof."""

    async def __del__(self) -> None:
        await self._stack.aclose()


def build_asgi(parts: ApiParts) -> FastAPI:
    """The HTTP application over cluster parts."""
    services = Services(
        settings=parts.settings,
        clock=parts.clock,
        new_id=parts.new_id,
        sessions=parts.sessions,
        book=parts.book,
        keys=parts.keys,
        llm=parts.llm,
        started=parts.clock.monotonic(),
        version=version("greenroom"),
        checks=Checks(parts).all(),
        scrape=lambda: scrape(parts.settings.namespace),
    )
    return create_api(services)


class Checks:
    """What `/health` and `/ready` ask."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    def all(self) -> tuple[Any, ...]:
        return (self.check_database, self.check_sessions, self.check_sandbox, self.check_memory, self.check_model)

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
        message = f"{capability.backend}, isolation level {capability.level}"
        return CheckResult(
            "sandbox", "warning" if lacks else "healthy", f"{message}; missing: {lacks}" if lacks else message
        )

    async def check_memory(self) -> CheckResult:
        actors = named_actors(MEMORY, self._parts.settings.namespace)
        if not actors:
            return CheckResult("memory", "warning", "the memory actor is not there; remember and recall are off")
        return CheckResult("memory", "healthy", "LanceDB")

    async def check_model(self) -> CheckResult:
        # Not asked over the network: a gateway that is down must not take every replica out of service.
        source = model_source(self._parts.settings)
        return CheckResult("model", "healthy", f"{self._parts.llm.default_model} at {source}")


async def scrape(namespace: str) -> dict[str, bytes]:
    """The expositions of every actor that answers in time."""
    actors = {
        name: actor
        for prefix in (SESSION_PREFIX, SANDBOX_PREFIX, DIRECTORY, MEMORY)
        for name, actor in named_actors(prefix, namespace).items()
    }

    async def ask(actor: Any) -> bytes | None:
        try:
            async with asyncio.timeout(SCRAPE_S):
                return await actor.metrics.remote()
        except (TimeoutError, RayError):
            return None

    async with asyncio.TaskGroup() as group:
        asked = {name: group.create_task(ask(actor)) for name, actor in actors.items()}
    return {name: text for name, task in asked.items() if (text := task.result()) is not None}


def build(settings: Settings) -> serve.Application:
    """The application for `serve.run`, and for `serve deploy` with its settings as arguments."""
    ingress: Any = serve.ingress()
    deployment: Any = serve.deployment(
        ingress(Api),
        name="Api",
        num_replicas=1,
        max_ongoing_requests=2_000,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=20,
        health_check_period_s=10,
    )
    return deployment.bind(settings)
