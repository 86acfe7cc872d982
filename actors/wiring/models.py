"""Which model is asked, and where."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import InvalidInput
from ..core.settings import Settings, read_secret
from ..llm.base import LLM
from ..llm.breakers import BreakerPolicy, Breakers, Key, State
from ..llm.chat_request import OPENROUTER_DIALECT, ChatDialect, MaxPrice
from ..llm.demo import DemoModel
from ..llm.limits import CallLimits, FairSlots, LimitedLLM
from ..llm.openai import OpenAIClient, Timeouts
from ..llm.preferences import Preferences
from ..llm.price_table import PriceTable, Table, no_table

DEMO = "demo"
OPENROUTER = "https://openrouter.ai/api/v1"
OPENROUTER_MODEL = "openrouter/auto"

_DIALECTS = {"openrouter": OPENROUTER_DIALECT, "openai": ChatDialect()}
_SHOWN = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


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
async def open_llm(settings: Settings, clock: Clock, breakers: Breakers | None = None) -> AsyncGenerator[LLM]:
    """A process that says which breakers are open brings them."""
    llm = _limited(_llm(settings, clock, breakers or model_breakers(settings, clock)), settings, clock)
    try:
        yield llm
    finally:
        await llm.aclose()


def keeps_records(settings: Settings) -> bool:
    """Whether the model server tells afterwards what an answer cost."""
    source = model_source(settings)
    return source != DEMO and (_DIALECTS.get(settings.llm_dialect) or ChatDialect.of(source)).gateway_members


@asynccontextmanager
async def open_records(settings: Settings, clock: Clock) -> AsyncGenerator[OpenAIClient | None]:
    """Where costs of answers are looked up, and the meter of the key is read; None where nobody keeps records."""
    if not keeps_records(settings):
        yield None
        return
    client = _client(settings, clock)
    try:
        yield client
    finally:
        await client.aclose()


def model_breakers(settings: Settings, clock: Clock) -> Breakers:
    """Breakers whose state is a metric of this process."""
    policy = BreakerPolicy(
        window_s=settings.llm_breaker_window_s,
        failure_rate=settings.llm_breaker_failure_rate,
        min_calls=settings.llm_breaker_min_calls,
        open_s=settings.llm_breaker_open_s,
        open_max_s=max(settings.llm_breaker_open_s, settings.llm_breaker_open_max_s),
    )
    return Breakers(policy, clock=clock, on_change=_show)


def left_alone(breakers: Breakers) -> tuple[str, ...]:
    """What is left alone now, as `scope:name`."""
    return tuple(f"{scope}:{name}" for (scope, name), state in breakers.states().items() if state is State.OPEN)


def _show(key: Key, state: State | None) -> None:
    scope, name = key
    name = telemetry.model_label(name) if scope in ("model", "provider") else name
    telemetry.LLM_BREAKER_STATE.labels(scope, name).set(_SHOWN[state or State.CLOSED])


def _limited(llm: LLM, settings: Settings, clock: Clock) -> LLM:
    limits = CallLimits(
        settings.llm_max_calls, settings.llm_max_calls_per_model, settings.llm_queue_max, settings.llm_queue_s
    )
    if not limits.calls and not limits.calls_per_model:
        return llm
    slots = FairSlots(limits, clock=clock)
    telemetry.LLM_CALLS_RUNNING.set_function(lambda: slots.running)
    telemetry.LLM_CALLS_WAITING.set_function(lambda: slots.waiting)
    return LimitedLLM(llm, slots)


def _llm(settings: Settings, clock: Clock, breakers: Breakers) -> LLM:
    return DemoModel(clock=clock) if model_source(settings) == DEMO else _client(settings, clock, breakers)


def _client(settings: Settings, clock: Clock, breakers: Breakers | None = None) -> OpenAIClient:
    return OpenAIClient(
        base_url=model_source(settings),
        default_model=default_model(settings),
        api_key=read_secret(settings.llm_api_key_env),
        timeouts=Timeouts(
            connect_s=settings.llm_connect_s,
            first_token_s=settings.llm_first_token_s,
            idle_s=settings.llm_idle_s,
            total_s=settings.llm_total_s,
        ),
        dialect=_DIALECTS.get(settings.llm_dialect),
        fallbacks=settings.llm_fallback_models,
        max_price=MaxPrice(settings.llm_max_prompt_usd, settings.llm_max_completion_usd),
        preferences=Preferences(
            settings.llm_reasoning_effort,
            only=settings.llm_providers,
            order=settings.llm_provider_order,
            no_collection=settings.llm_no_collection,
            no_retention=settings.llm_no_retention,
        ),
        breakers=breakers,
        clock=clock,
        table=price_table(settings, clock),
    )


def price_table(settings: Settings, clock: Clock) -> Table:
    """Prices of models that the server does not list."""
    source = model_source(settings)
    if source == DEMO:
        return no_table
    return PriceTable(source, gateway=settings.llm_dialect == "openrouter", clock=clock)
