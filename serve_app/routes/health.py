"""Is it alive, is it ready, how is it, and the metrics. Open to everybody who reaches the port."""

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from actors.core import telemetry
from actors.core.clock import rfc3339

from ..answers import respond
from ..auth import Wired
from ..exposition import merged
from ..health import Health, worst
from ..schemas import CheckOut, HealthOut, Problem
from ..services import CheckResult, Services

router = APIRouter(tags=["operation"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers. Asks nobody else."""
    return {"status": "alive"}


@router.get("/health", response_model=HealthOut)
async def health(services: Wired) -> Response:
    """How every part is. 200 as long as the process answers; `status` is the worst of the checks."""
    return _report(services, await _checked(services), ready_only=False)


@router.get("/ready", response_model=HealthOut, responses={503: {"model": HealthOut}})
async def ready(services: Wired) -> Response:
    """Can messages be accepted now? 503 while a part that this needs does not answer."""
    return _report(services, await _checked(services), ready_only=True)


@router.get("/metrics", responses={503: {"model": Problem}})
async def metrics(services: Wired) -> Response:
    """Prometheus: every HTTP replica, and every session, memory and sandbox actor, under the label `process`."""
    others = await services.scrape()
    return Response(merged({services.process: telemetry.exposition(), **others}), media_type=CONTENT_TYPE_LATEST)


async def _checked(services: Services) -> tuple[CheckResult, ...]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Health(check).result()) for check in services.checks]
    return tuple(task.result() for task in tasks)


def _report(services: Services, results: tuple[CheckResult, ...], *, ready_only: bool) -> Response:
    status = worst(results)
    body = HealthOut(
        status=status,
        timestamp=rfc3339(services.clock.now()),
        checks=[CheckOut(name=r.name, status=r.status, message=r.message, loading=r.loading) for r in results],
        uptime=int(services.clock.monotonic() - services.started),
        version=services.version,
    )
    return respond(body, 503 if ready_only and status == "unhealthy" else 200)
