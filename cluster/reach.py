"""Checks that try something out: the sandbox's canary, the database, the model server."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from actors.core.clock import SystemClock
from actors.core.errors import GreenroomError
from actors.core.settings import Settings
from actors.sandbox.base import Capability
from actors.sandbox.unavailable import STRONGER
from actors.store.migrate import HEAD, installed_revision
from actors.wiring.models import DEMO, model_source, open_llm
from actors.wiring.sandbox import docker_version, required_level, sandbox_backend
from actors.wiring.store import database_address

from .finding import Finding

SANDBOX_S = 90.0
ANSWER_S = 15.0


def sandbox(settings: Settings) -> list[Finding]:
    """What a canary in a sandbox found. Builds the root filesystem when it is not there yet."""
    return asyncio.run(_sandbox(settings))


async def _sandbox(settings: Settings) -> list[Finding]:
    if settings.sandbox == "none":
        return [Finding("Sandbox", "weak", "switched off", "unset GREENROOM_SANDBOX to run tools")]
    capability = await probe_sandbox(settings)
    if capability is None:
        return [Finding("Sandbox", "weak", f"no answer within {SANDBOX_S:g} s", "look for a slow disk")]
    enough = capability.level.reaches(required_level(settings))
    missing = capability.missing or (() if enough else (STRONGER,))
    gaps = [Finding("Sandbox", "weak", f"missing: {gap.what}", gap.fix) for gap in missing]
    if not enough:
        found = f"level {capability.level}, and {settings.sandbox_min_level} is required: tools that run code refuse"
        return [Finding("Sandbox", "weak", found, "see below"), *gaps]
    limits = ", ".join(sorted(capability.limits)) or "none"
    egress = ", ".join(capability.egress) or "none"
    found = f"{capability.backend}, level {capability.level}; limits: {limits}; egress: {egress}"
    return [Finding("Sandbox", "fine", found), *gaps]


async def probe_sandbox(settings: Settings) -> Capability | None:
    """What the canary found; None where there is no answer in time. Sandboxes must not be switched off."""
    backend = sandbox_backend(settings)
    try:
        async with asyncio.timeout(SANDBOX_S):
            return await backend.probe()
    except TimeoutError:
        return None
    finally:
        await backend.aclose()


def docker(settings: Settings) -> Finding:
    """Whether the daemon answers. Nobody needs it where another backend is used."""
    found, fix = docker_version(settings)
    if not fix:
        return Finding("Docker", "fine", f"{found} answers at {settings.sandbox_docker_host}")
    if settings.sandbox == "docker" or settings.sandbox_docker_image:
        return Finding("Docker", "weak", f"missing: {found}", fix)
    return Finding("Docker", "fine", f"not used; there would have to be {found}")


def database(settings: Settings) -> list[Finding]:
    return asyncio.run(_database(settings))


async def _database(settings: Settings) -> list[Finding]:
    if settings.database_url is None:
        return [Finding("Database", "fine", "SQLite in the home folder")]
    try:
        async with asyncio.timeout(ANSWER_S):
            revision = await asyncio.to_thread(installed_revision, database_address(settings))
    except (SQLAlchemyError, OSError, TimeoutError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [Finding("Database", "missing", reason, "check GREENROOM_DATABASE_URL and that its server runs")]
    found = "empty, filled at the first start" if revision is None else f"schema {revision}"
    return [
        Finding("Database", "fine", found if revision in (None, HEAD) else f"{found}, brought to {HEAD} at the start")
    ]


def model(settings: Settings) -> list[Finding]:
    return asyncio.run(_model(settings))


async def _model(settings: Settings) -> list[Finding]:
    source = model_source(settings)
    if source == DEMO:
        hint = f"set {settings.llm_api_key_env}, or GREENROOM_LLM_BASE_URL, for a real model"
        return [Finding("Model", "fine", f"the offline demo; {hint}")]
    try:
        async with asyncio.timeout(ANSWER_S), open_llm(settings, SystemClock()) as llm:
            models = await llm.models()
    except (GreenroomError, TimeoutError) as error:
        reason = getattr(error, "message", "") or f"no answer within {ANSWER_S:g} s"
        return [
            Finding(
                "Model",
                "missing",
                f"{source}: {reason}",
                f"check GREENROOM_LLM_BASE_URL and {settings.llm_api_key_env}",
            )
        ]
    return [Finding("Model", "fine", f"{source} lists {len(models)} models; the default is {llm.default_model}")]


CHECKS = (sandbox, docker, database, model)
