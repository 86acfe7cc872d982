"""A host of sessions."""

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

from ..agent.approvals import ApprovalPolicy, Approvals
from ..agent.host import SessionHost
from ..agent.journal import Journal
from ..agent.limits import TurnLimits
from ..agent.loop import TurnLoop
from ..agent.meters import Meters
from ..agent.model_call import ModelCall
from ..agent.payloads import Payloads
from ..agent.prices import Price, Prices
from ..agent.spending import Spending
from ..agent.sql_journal import SqlJournal
from ..agent.tariff import Tariff
from ..agent.tool_calls import ToolCalls
from ..core.clock import Clock, SystemClock
from ..core.ids import NewId, uuid7_ids
from ..core.settings import Settings
from ..ledger.budget import Budgets
from ..ledger.expensive import Expensive, Operation
from ..ledger.thresholds import Alert
from ..llm.base import LLM
from ..memory.base import MemoryStore
from ..memory_handles import RemoteMemories
from ..register import met
from ..sandbox.base import Sandboxes
from ..sandbox_handles import RemoteSandboxes
from ..security.audit import Audit, SqlAudit
from ..security.cipher import ClearText
from ..tools.toolbox import Toolbox, default_tools
from .alerts import reactions
from .ledger import open_budgets
from .limits import sandbox_limits
from .models import keeps_records, left_alone, model_breakers, open_llm, price_table
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
                react=reactions(settings, budgets.accounts, database, clock).react,
                impaired=functools.partial(left_alone, breakers),
            )


def tool_names(settings: Settings, clock: Clock) -> tuple[str, ...]:
    """Names of the tools that models may call."""
    return tuple(spec.name for spec in make_toolbox(settings, clock).specs)


def make_toolbox(settings: Settings, clock: Clock) -> Toolbox:
    """The tools that models may call."""
    chars = settings.tool_output_chars
    return Toolbox(default_tools(clock, sandbox_limits(settings), max_chars=chars), max_chars=chars)


def make_prices(settings: Settings, llm: LLM, clock: Clock) -> Prices:
    """Those of the model server, and what is taken where it lists none."""
    per_token = [
        usd / 1_000_000 for usd in (settings.budget_assumed_prompt_usd, settings.budget_assumed_completion_usd)
    ]
    return Prices(
        llm,
        unlisted=settings.budget_unlisted_price,
        assumed=Price(*per_token),
        table=price_table(settings, clock),
    )


def _spending(
    settings: Settings,
    budgets: Budgets,
    llm: LLM,
    clock: Clock,
    react: Callable[[Alert], Awaitable[None]] | None,
) -> Spending:
    bounds = {
        Operation.PROMPT: settings.budget_expensive_prompt_usd,
        Operation.COMPLETION: settings.budget_expensive_completion_usd,
        Operation.RUN: Decimal(settings.budget_expensive_run_s),
    }
    return Spending(
        budgets,
        make_prices(settings, llm, clock),
        expensive=Expensive(bounds),
        cheaper_model=settings.budget_cheaper_model,
        react=react,
        records=keeps_records(settings),
    )


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
    react: Callable[[Alert], Awaitable[None]] | None = None,
    impaired: Callable[[], tuple[str, ...]] = tuple,
) -> SessionHost:
    """A host over the parts given: the same for a session actor and for a test in one process.

    Without `budgets` nothing is reserved and nothing refused.
    """
    new_id = new_id or uuid7_ids(clock)
    toolbox = make_toolbox(settings, clock)
    guard = sandbox_guard(settings, sandboxes, audit=audit, clock=clock, new_id=new_id)
    spending = None if budgets is None else _spending(settings, budgets, llm, clock, react)
    model = ModelCall(
        llm,
        tools=toolbox.specs,
        clock=clock,
        new_id=new_id,
        max_completion_tokens=settings.completion_max_tokens,
        default_system=settings.system_prompt,
        spending=spending,
    )
    approvals = Approvals(toolbox, ApprovalPolicy.of(settings), clock=clock, new_id=new_id)
    loop = TurnLoop(
        model,
        ToolCalls(
            toolbox,
            approvals,
            guard=guard,
            memories=memories,
            meters=Meters(toolbox, Tariff.of(settings), spending=spending, clock=clock),
            clock=clock,
            spending=spending,
        ),
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
