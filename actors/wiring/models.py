"""Which model is asked, and where."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.errors import InvalidInput
from ..core.settings import Settings, read_secret
from ..llm.base import LLM
from ..llm.demo import DemoModel
from ..llm.openai import OpenAIClient, Timeouts

DEMO = "demo"
OPENROUTER = "https://openrouter.ai/api/v1"
OPENROUTER_MODEL = "openrouter/auto"


def model_source(settings: Settings) -> str:
    """`demo`, or the base URL that models are asked at."""
    if settings.llm == DEMO:
        return DEMO
    if settings.llm == "auto" and settings.llm_base_url is None and read_secret(settings.llm_api_key_env) is None:
        return DEMO
    return settings.llm_base_url or OPENROUTER


def default_model(settings: Settings) -> str:
    """The model of sessions that name none. Raises `InvalidInput` when a base URL was given without one."""
    source = model_source(settings)
    model = settings.model or {DEMO: DEMO, OPENROUTER: OPENROUTER_MODEL}.get(source)
    if model is None:
        raise InvalidInput(f"set GREENROOM_MODEL to the model that {source} should be asked for")
    return model


@asynccontextmanager
async def open_llm(settings: Settings, clock: Clock) -> AsyncGenerator[LLM]:
    llm = _llm(settings, clock)
    try:
        yield llm
    finally:
        await llm.aclose()


def _llm(settings: Settings, clock: Clock) -> LLM:
    source = model_source(settings)
    if source == DEMO:
        return DemoModel(clock=clock)

    return OpenAIClient(
        base_url=source,
        default_model=default_model(settings),
        api_key=read_secret(settings.llm_api_key_env),
        timeouts=Timeouts(
            connect_s=settings.llm_connect_s,
            first_token_s=settings.llm_first_token_s,
            idle_s=settings.llm_idle_s,
            total_s=settings.llm_total_s,
        ),
        clock=clock,
    )
