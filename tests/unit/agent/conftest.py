"""Hosts over one SQLite journal, and the line between each host and the journal, which a test can cut."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listens_for
from structlog.testing import capture_logs

from actors.agent.approval_book import ApprovalBook, ApprovalRow
from actors.agent.book import SessionBook
from actors.agent.host import SessionHost
from actors.agent.journal import Activation, Append
from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Submit
from actors.agent.sql_journal import SqlJournal
from actors.agent.state import SessionState
from actors.agent.transcript_rules import AnthropicRules, OpenAIRules, first_fault
from actors.core.errors import StoreUnavailable
from actors.core.events import Event
from actors.core.ids import NewId
from actors.core.messages import Message
from actors.core.settings import Settings
from actors.ledger.book import Attempt, attempts_of
from actors.llm.base import LLM
from actors.sandbox.base import Limits
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing import FakeClock, ScriptedLLM, sequential_ids
from actors.testing.audits import ListAudit
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.tools.base import Tool
from actors.tools.toolbox import default_tools
from actors.wiring.sessions import session_host
from actors.wiring.store import open_database

DEADLINE_S = 5.0
USER = "user_1"


class Line:
    """A `Journal` on the way to the real one: appends can be held on the way, refused, or cut off for good."""

    def __init__(self, journal: SqlJournal) -> None:
        self.journal = journal
        self.appends: list[Append] = []
        self.waiting = 0
        """Appends that are held on their way now."""
        self.refusal: Exception | None = None
        """Raised in place of every append."""
        self.activations = asyncio.Event()
        self.activations.set()
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut(self) -> None:
        """As when the process dies: nothing of it arrives any more."""
        self.refusal = StoreUnavailable("the process is dead")
        self.release()

    async def append(self, append: Append) -> None:
        self.appends.append(append)
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        if self.refusal is not None:
            raise self.refusal
        await self.journal.append(append)

    async def activate(self, session_id: str, user_id: str | None = None) -> Activation:
        await self.activations.wait()
        return await self.journal.activate(session_id, user_id)

    async def read(self, session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        return await self.journal.read(session_id, after=after, limit=limit)

    async def exists(self, session_id: str) -> bool:
        return await self.journal.exists(session_id)

    async def overtaken(self, epochs: Mapping[str, int]) -> tuple[str, ...]:
        return await self.journal.overtaken(epochs)

    async def unfinished(self, *, limit: int) -> tuple[str, ...]:
        return await self.journal.unfinished(limit=limit)

    async def due(self, now: datetime, *, limit: int) -> tuple[str, ...]:
        return await self.journal.due(now, limit=limit)

    async def trim(self, before: datetime, *, limit: int) -> int:
        return await self.journal.trim(before, limit=limit)


class World:
    """A database, and hosts over it as if each were a process of its own."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.clock = FakeClock()
        counted = sequential_ids()
        # Not `call_1`: so models name their calls.
        self.new_id: NewId = lambda kind: f"made_{counted(kind)}"
        self.payloads = Payloads(ClearText())
        self.journal = SqlJournal(database, self.payloads)
        self.book = SessionBook(database, self.payloads, self.journal, self.clock)
        self.audit = ListAudit()
        self.hosts: list[SessionHost] = []
        self._numbers = itertools.count(1)

    def host(
        self,
        llm: LLM,
        *,
        line: Line | None = None,
        sandboxes: FakeSandboxes | None = None,
        budgets: Any = None,
        react: Any = None,
        **changes: Any,
    ) -> SessionHost:
        host = session_host(
            self.settings.model_copy(update=changes),
            journal=line or self.line(),
            llm=llm,
            sandboxes=sandboxes or FakeSandboxes(),
            memories=DictMemories(),
            audit=self.audit,
            clock=self.clock,
            new_id=self.new_id,
            budgets=budgets,
            react=react,
        )
        self.hosts.append(host)
        return host

    def line(self) -> Line:
        return Line(SqlJournal(self.database, self.payloads))

    def submit(self, content: str = "hello", session_id: str = "sess_1", **changes: Any) -> Submit:
        """A message under fresh ids that opens the session if need be."""
        number = next(self._numbers)
        members: dict[str, Any] = {
            "user_id": USER,
            "message_id": f"msg_u{number}",
            "turn_id": f"turn_{number}",
            "new": NewSession("scripted"),
        }
        return Submit(session_id, content=content, **{**members, **changes})

    async def events(self, session_id: str = "sess_1") -> list[Event]:
        return list(await self.journal.read(session_id, after=0, limit=100_000))

    async def types(self, session_id: str = "sess_1") -> list[str]:
        return [event.body.type for event in await self.events(session_id)]

    async def bodies(self, kind: type[Any], session_id: str = "sess_1") -> list[Any]:
        return [event.body for event in await self.events(session_id) if isinstance(event.body, kind)]

    async def state(self, session_id: str = "sess_1") -> SessionState:
        """The session as the journal alone tells it."""
        return replayed(await self.events(session_id))

    async def attempts(self, session_id: str = "sess_1") -> tuple[Attempt, ...]:
        return await self._attempts(session_id, "model")

    async def uses(self, session_id: str = "sess_1") -> tuple[Attempt, ...]:
        """What else than models has rows."""
        return await self._attempts(session_id, "tool", "sandbox", "embedding")

    async def _attempts(self, session_id: str, *kinds: str) -> tuple[Attempt, ...]:
        found = await self.database.read(lambda c: attempts_of(c, session_id))
        return tuple(attempt for attempt in found if attempt.kind in kinds)

    async def approvals(self, session_id: str = "sess_1") -> tuple[ApprovalRow, ...]:
        """Newest first."""
        rows, _ = await ApprovalBook(self.database, self.payloads).page(
            USER, limit=100, after=None, session_id=session_id
        )
        return rows

    async def die(self, host: SessionHost) -> None:
        """End a host as a killed process ends: nothing of it is written any more, and its tasks are gone."""
        line: Any = host._journal
        line.cut()
        tasks = [s._running.task for s in host._sessions.values() if s._running is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=DEADLINE_S)


def replayed(events: Iterable[Event]) -> SessionState:
    events = list(events)
    state = SessionState(events[0].session_id)
    for event in events:
        state.apply(event)
    return state


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What was logged; printing it with every local variable takes longer than the test."""
    with capture_logs() as captured:
        yield captured


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema in it, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "greenroom.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def tools() -> tuple[Tool, ...]:
    """The built-in tools, made once: their schemas take longer to build than a turn to run."""
    return default_tools(FakeClock(), Limits(), max_chars=16_000)


@pytest.fixture
def make_world(
    tmp_path: Path, migrated: Path, tools: tuple[Tool, ...], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractAsyncContextManager[World]]:
    """Worlds, each with a database of its own."""
    numbers = itertools.count()
    monkeypatch.setattr("actors.wiring.sessions.default_tools", lambda *_, **__: tools)

    @asynccontextmanager
    async def make() -> AsyncIterator[World]:
        home = tmp_path / f"home{next(numbers)}"
        home.mkdir()
        shutil.copy(migrated, home / "greenroom.db")
        # Commands are names in a script here, and no programs: the policy has tests of its own.
        anything = {"policy_allowed_commands": ("*",)}
        settings = Settings(home=home, delta_interval_s=0, turn_max_s=60, session_idle_s=300, **anything)
        async with open_database(settings) as database:
            _spare_the_disk(database)
            world = World(settings, database)
            try:
                yield world
            finally:
                for host in world.hosts:
                    await world.die(host)

    return make


def _spare_the_disk(database: Database) -> None:
    """Tests of logic need not wait for the disk: what survives a power cut is the journal's own test."""

    @listens_for(database.engine, "connect")
    def _off(connection: Any, record: Any) -> None:  # pyright: ignore[reportUnusedFunction] # called by its event
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture
async def world(make_world: Callable[[], AbstractAsyncContextManager[World]]) -> AsyncIterator[World]:
    async with make_world() as world:
        yield world


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for a condition that other tasks bring about."""

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - any condition, of which no event tells
                await asyncio.sleep(0.001)

    return until


@pytest.fixture
def llm() -> Callable[..., ScriptedLLM]:
    return ScriptedLLM


# What providers take as a conversation -----------------------------------------------------------------


@pytest.fixture
def check_openai() -> Callable[[Iterable[Message]], None]:
    return _check_openai


@pytest.fixture
def check_anthropic() -> Callable[[Iterable[Message]], None]:
    return _check_anthropic


def _check_openai(messages: Iterable[Message]) -> None:
    fault = first_fault(OpenAIRules(), messages)
    assert fault is None, fault


def _check_anthropic(messages: Iterable[Message]) -> None:
    fault = first_fault(AnthropicRules(), messages)
    assert fault is None, fault
