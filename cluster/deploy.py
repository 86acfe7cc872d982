"""`greenroom deploy`: put Greenroom on a Ray cluster of several machines. Runs on one of them, as a job or by hand.

It may be run again at any time, and after a failure: what is there already is kept.
"""

import asyncio
import logging
import time
from typing import Any

import ray
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.serve.schema import ApplicationStatus
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from actors.core.errors import GreenroomError, UnavailableError
from actors.core.settings import Settings
from actors.start import start_actors, stop_actors

from .boot import Boot
from .serve_config import serve_config

GRACE_S = 20.0
"""With `--restart` running turns get so long to end; what does not end goes on in the actors that come after."""

_POLL_S = 0.5
_ray: Any = ray


class NotDeployed(Exception):
    """Something is in the way; the message says what."""


def run(
    console: Console,
    settings: Settings,
    *,
    address: str,
    replicas: int,
    resource: str | None,
    restart: bool,
    within_s: float,
) -> int:
    """Prints each step and returns the exit code of the command."""
    application = serve_config(settings, replicas=replicas, resource=resource)
    deployment = _Deployment(console, settings, time.monotonic() + within_s)
    try:
        _ray.init(address=address, namespace=settings.namespace, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        console.print(f"Ray does not answer at {address}: {error}", markup=False, soft_wrap=True)
        return 3
    try:
        deployment.carry_out(_dashboard(settings), application, restart=restart)
    except (NotDeployed, GreenroomError, SQLAlchemyError, OSError, RuntimeError) as error:
        console.print(f"Not deployed: {error}", markup=False, soft_wrap=True)
        return 1
    finally:
        _ray.shutdown()
    return 0


class _Deployment:
    def __init__(self, console: Console, settings: Settings, deadline: float) -> None:
        self._console = console
        self._settings = settings
        self._deadline = deadline
        self._boot = Boot(settings)

    def carry_out(self, dashboard: str, application: dict[str, Any], *, restart: bool) -> None:
        self._boot.prepare()
        self._say(f"The database has this version's schema; the admin's key is in {self._settings.admin_key_file}.")
        if restart:
            asyncio.run(stop_actors(self._settings, grace_s=GRACE_S))
            self._say("The actors that were there have stopped.")
        ServeSubmissionClient(dashboard).deploy_applications(application)
        asyncio.run(self._start_actors())
        self._say("The actors are there, and sessions can be served.")
        self._await_http()
        asyncio.run(self._boot.warm_actors())
        self._say(f"HTTP answers on port {self._settings.port}.")

    async def _start_actors(self) -> None:
        """Machines that offer room for sessions may still be on their way: an autoscaler brings them when asked."""
        while True:
            try:
                await start_actors(self._settings)
            except UnavailableError as error:
                if time.monotonic() > self._deadline:
                    raise
                self._say(f"Waiting: {error}")
                await asyncio.sleep(_POLL_S)
            else:
                return

    def _await_http(self) -> None:
        while (status := self._boot.application()) != ApplicationStatus.RUNNING:
            if (problem := self._boot.problem()) is not None:
                raise NotDeployed(f"the HTTP application does not start: {problem}")
            if time.monotonic() > self._deadline:
                raise NotDeployed(f"the HTTP application is not ready in time; Serve says {status or 'nothing'}")
            time.sleep(_POLL_S)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def _dashboard(settings: Settings) -> str:
    # Not the address that Ray tells: a head that came back over its Redis elsewhere still tells the one that it had.
    host = _ray.get_runtime_context().gcs_address.rpartition(":")[0]
    return f"http://{host}:{settings.dashboard_port}"
