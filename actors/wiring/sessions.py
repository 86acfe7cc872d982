"""A host of sessions."""

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from ..agent.approvals import ApprovalPolicy, Approvals
from ..agent.host import SessionHost
from ..agent.journal import Journal
from ..agent.limits import TurnLimits
from ..agent.loop import TurnLoop
from ..agent.model_call import ModelCall
from ..agent.payloads import Payloads
from ..agent.prices import Price, Prices
from ..agent.spending import Spending
from ..agent.sql_journal import SqlJournal
from ..agent.tool_calls import ToolCalls
from ..core.clock import Clock, SystemClock
from ..core.ids import NewId, uuid7_ids
from ..core.settings import Settings
from ..ledger.budget import Budgets
from ..llm.base import LLM
from ..memory.base import MemoryStore
from ..memory_handles import RemoteMemories
from ..register import met
from ..sandbox.base import Sandboxes
from ..sandbox_handles import RemoteSandboxes
from ..security.audit import Audit, SqlAudit
from ..security.cipher import ClearText
from ..tools.toolbox import Toolbox, default_tools
from .ledger import open_budgets
from .limits import sandbox_limits
from .models import DEMO, keeps_records, left_alone, model_breakers, model_source, open_llm
from .policy import sandbox_guard
from .store import open_database


@asynccontextmanager
async def open_session_host(settings: Settings) -> AsyncGenerator[SessionHost]:
    """A host whose sandboxes and memories are in the cluster's actors."""
    clock = SystemClock()
    breakers = model_breakers(settings, clock)
    async with (
        open_database(settings) as database,
        open_llm(settings, clock, breakers) as llm,
        open_budgets(settings, database, clock) as budgets,
    ):
        journal = SqlJournal(database, Payloads(ClearText()))
        audit = SqlAudit(database, ClearText())
        sandboxes = RemoteSandboxes(settings.namespace, wait_s=settings.sandbox_wait_s)
        memories = RemoteMemories(settings.namespace, timeout_s=settings.memory_timeout_s)
        async with met(sandboxes.meet, memories.meet):
            yield session_host(
                settings,
                journal=journal,
                llm=llm,
                sandboxes=sandboxes,
                memories=memories,
                audit=audit,
                clock=clock,
                budgets=budgets,
                impaired=functools.partial(left_alone, breakers),
            )


def tool_names(settings: Settings, clock: Clock) -> tuple[str, ...]:
    """Names of the tools that models may call."""
    return tuple(spec.name for spec in _toolbox(settings, clock).specs)


def _toolbox(settings: Settings, clock: Clock) -> Toolbox:
    chars = settings.tool_output_chars
    return Toolbox(default_tools(clock, sandbox_limits(settings), max_chars=chars), max_chars=chars)


def _prices(settings: Settings, llm: LLM) -> Prices:
    per_token = [
        usd / 1_000_000 for usd in (settings.budget_assumed_prompt_usd, settings.budget_assumed_completion_usd)
    ]
    return Prices(
        llm,
        unlisted=settings.budget_unlisted_price,
        assumed=Price(*per_token),
        fallbacks=() if model_source(settings) == DEMO else settings.llm_fallback_models,
    )


def _spending(settings: Settings, llm: LLM, budgets: Budgets | None) -> Spending | None:
    return budgets and Spending(budgets, _prices(settings, llm), records=keeps_records(settings))


def session_host(
    settings: Settings,
    *,
    journal: Journal,
    llm: LLM,
    sandboxes: Sandboxes,
    memories: MemoryStore,
    audit: Audit,
    clock: Clock,
    new_id: NewId | None = None,
    budgets: Budgets | None = None,
    impaired: Callable[[], tuple[str, ...]] = tuple,
) -> SessionHost:
    """A host over the parts given: the same for a session actor and for a test in one process.

    Without `budgets` nothing is reserved and nothing refused.
    """
    new_id = new_id or uuid7_ids(clock)
    toolbox = _toolbox(settings, clock)
    guard = sandbox_guard(settings, sandboxes, audit=audit, clock=clock, new_id=new_id)
    model = ModelCall(
        llm,
        tools=toolbox.specs,
        clock=clock,
        new_id=new_id,
        max_completion_tokens=settings.completion_max_tokens,
        default_system=settings.system_prompt,
        spending=_spending(settings, llm, budgets),
    )
    approvals = Approvals(toolbox, ApprovalPolicy.of(settings), clock=clock, new_id=new_id)
    loop = TurnLoop(
        model,
        ToolCalls(toolbox, approvals, guard=guard, memories=memories, clock=clock),
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
        inbox_max=settings.inbox_max,
        idle_s=settings.session_idle_s,
        delta_interval_s=settings.delta_interval_s,
        impaired=impaired,
    )
