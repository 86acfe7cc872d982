"""What an HTTP replica is made of."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ..agent.approval_book import ApprovalBook
from ..agent.book import SessionBook
from ..agent.cost_reports import CostReports
from ..agent.payloads import Payloads
from ..agent.sql_journal import SqlJournal
from ..agent.workspaces import Workspaces
from ..core.clock import Clock, SystemClock
from ..core.ids import NewId, uuid7_ids
from ..core.settings import Settings
from ..handles import RemoteSessions
from ..llm.base import LLM
from ..memory_handles import RemoteMemories
from ..register import met
from ..sandbox.base import Sandboxes
from ..sandbox_handles import RemoteSandboxes
from ..security.audit import SqlAudit
from ..security.cipher import ClearText
from ..security.keys import ApiKeys
from ..store.database import Database
from .costs import cost_reports
from .models import open_llm
from .policy import sandbox_guard
from .store import api_keys, open_database


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What an HTTP replica is made of."""

    settings: Settings
    clock: Clock
    new_id: NewId
    sessions: RemoteSessions
    sandboxes: Sandboxes
    workspaces: Workspaces
    memories: RemoteMemories
    book: SessionBook
    approvals: ApprovalBook
    costs: CostReports
    keys: ApiKeys
    database: Database
    llm: LLM


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncGenerator[ApiParts]:
    clock = SystemClock()
    sessions = RemoteSessions(settings.namespace, clock)
    sandboxes = RemoteSandboxes(settings.namespace, wait_s=settings.sandbox_wait_s)
    memories = RemoteMemories(settings.namespace, timeout_s=settings.memory_timeout_s)
    async with (
        open_database(settings) as database,
        open_llm(settings, clock) as llm,
        met(sessions.meet, sandboxes.meet, memories.meet),
    ):
        payloads = Payloads(ClearText())
        new_id = uuid7_ids(clock)
        book = SessionBook(database, payloads, SqlJournal(database, payloads), clock)
        audit = SqlAudit(database, ClearText())
        guard = sandbox_guard(settings, sandboxes, audit=audit, clock=clock, new_id=new_id)
        yield ApiParts(
            settings=settings,
            clock=clock,
            new_id=new_id,
            sessions=sessions,
            sandboxes=sandboxes,
            workspaces=Workspaces(book, guard),
            memories=memories,
            book=book,
            approvals=ApprovalBook(database, payloads),
            costs=cost_reports(settings, database, book, llm, clock),
            keys=api_keys(settings, database, clock),
            database=database,
            llm=llm,
        )
