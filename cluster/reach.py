"""Checks that try something out: the sandbox's canary, the database, the model server."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from actors.core.clock import SystemClock
from actors.core.errors import GreenroomError
from actors.core.settings import Settings
from actors.sandbox.base import Level
from actors.store.migrate import HEAD, installed_revision
from actors.wiring.models import DEMO, model_source, open_llm
from actors.wiring.sandbox import sandbox_backend
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
    backend = sandbox_backend(settings.sandbox_cache)
    try:
        async with asyncio.timeout(SANDBOX_S):
            capability = await backend.probe()
    except TimeoutError:
        return [Finding("Sandbox", "weak", f"no answer within {SANDBOX_S:g} s", "look for a slow disk")]
    finally:
        await backend.aclose()
    gaps = [Finding("Sandbox", "weak", f"missing: {gap.what}", gap.fix) for gap in capability.missing]
    if capability.level is Level.NONE:
        return [Finding("Sandbox", "weak", "none, so tools that run code refuse", "see below"), *gaps]
    limits = ", ".join(sorted(capability.limits)) or "none"
    return [Finding("Sandbox", "fine", f"{capability.backend}, level {capability.level}; limits: {limits}"), *gaps]


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


CHECKS = (sandbox, database, model)
