"""What the routes use, as Protocols and plain values: filled by `app.py` in a cluster, by a test in one process."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from actors.agent.approval_book import ApprovalBook
from actors.agent.book import SessionBook
from actors.agent.cost_reports import CostReports
from actors.agent.sessions import Sessions
from actors.agent.workspaces import Workspaces
from actors.core.clock import Clock
from actors.core.ids import NewId
from actors.core.settings import Settings
from actors.llm.base import LLM
from actors.sandbox.base import Sandboxes
from actors.security.keys import ApiKeys

from .idempotency import Underway

UPLOADS = 4


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`warning` means that something works less well than it could; only `unhealthy` makes a replica unready."""

    name: str
    status: Literal["healthy", "warning", "unhealthy"]
    message: str
    loading: bool = False
    """It is starting: ask again soon."""


Check: TypeAlias = Callable[[], Awaitable[CheckResult]]
Scrape: TypeAlias = Callable[[], Awaitable[dict[str, bytes]]]
"""Prometheus expositions of the other processes, by process name."""


async def _nothing() -> dict[str, bytes]:
    return {}


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    clock: Clock
    new_id: NewId
    sessions: Sessions
    sandboxes: Sandboxes
    workspaces: Workspaces
    book: SessionBook
    approvals: ApprovalBook
    costs: CostReports
    keys: ApiKeys
    llm: LLM
    started: float
    """When this process began to serve, by the monotonic clock."""
    version: str
    tools: tuple[str, ...] = ()
    """Names of the tools that models may call; empty where they are not known."""
    checks: tuple[Check, ...] = ()
    process: str = "api"
    """What metrics call this process."""
    scrape: Scrape = field(default=_nothing)
    underway: Underway = field(default_factory=Underway)
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    """Guards the memory of this process: so many large files are taken at once."""
