"""The page at the real HTTP edge, in this process: sessions over SQLite, a led model, sandboxes in memory."""

import asyncio
import shutil
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import structlog
import uvicorn
from playwright.sync_api import Page, expect

from actors.agent.approval_book import ApprovalBook
from actors.agent.book import SessionBook
from actors.agent.host import SessionHost
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.agent.workspaces import Workspaces
from actors.core.clock import SystemClock
from actors.core.events import Event
from actors.core.ids import uuid7_ids
from actors.core.messages import UserMessage
from actors.core.settings import Settings
from actors.llm.base import ModelInfo, ModelRequest, StreamItem
from actors.security.cipher import ClearText
from actors.security.keys import ADMIN, ApiKeys
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing import ScriptedLLM, calls, says
from actors.testing.audits import ListAudit
from actors.testing.llm import Script
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring import store
from actors.wiring.costs import cost_reports
from actors.wiring.policy import sandbox_guard
from actors.wiring.sessions import session_host, tool_names
from serve_app.api import create_api
from serve_app.services import Services

USER = "user_admin"
_T = TypeVar("_T")


class LedLLM:
    """A model that follows `scripts`, one for each call, and repeats the user's words when there is none left."""

    default_model = "demo"

    def __init__(self) -> None:
        self.scripts: deque[Script] = deque()
        self.heard: list[list[str]] = []
        """What the user had said at each call."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        said = [message.content for message in request.messages if isinstance(message, UserMessage)]
        self.heard.append(said)
        script = self.scripts.popleft() if self.scripts else says(f"You said: {said[-1]}")
        async for item in ScriptedLLM([script], models=[request.model]).stream(request):
            yield item

    async def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo("demo", "Demo", context_length=100_000),)

    async def aclose(self) -> None:
        pass


@dataclass
class Edge:
    """The server, and what is behind it. Everything but `url` and `key` belongs to the loop of the server."""

    url: str
    key: str
    host: SessionHost
    journal: SqlJournal
    book: SessionBook
    approvals: ApprovalBook
    model: LedLLM
    sandboxes: FakeSandboxes
    loop: asyncio.AbstractEventLoop
    _gates: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run on the server's loop, and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def script(self, *scripts: Script) -> None:
        """What the next calls of the model do."""
        self.model.scripts.extend(scripts)

    def gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def release(self, name: str) -> None:
        """Let the model's call go on that holds at this gate."""
        self.loop.call_soon_threadsafe(self.gate(name).set)

    def slow(self, text: str, gate: str) -> Script:
        """An answer that begins with `text` and then holds."""
        first, *rest = says(text, " And that is all.")
        return [first, self.gate(gate), *rest]

    def runs(self, code: str, text: str = "I will compute that.") -> Script:
        """An answer that asks for a program to be run."""
        return calls(("run_python", {"code": code}), text=text)

    def say(self, session_id: str, message: str) -> None:
        """Chat from elsewhere, and wait for the answer."""
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": message.replace(" ", "-")}
        body = {"session_id": session_id, "message": message}
        for _ in range(2):  # a process that was overtaken learns it from the first one
            answer = httpx.post(f"{self.url}/api/v1/chat", json=body, headers=headers)
            if answer.status_code == 200:
                return
        raise AssertionError(answer.text)

    def trim(self, before: datetime) -> int:
        return self.call(self.journal.trim(before, limit=100))

    def sessions(self) -> list[str]:
        return [row.id for row in self.call(self.book.page(USER, limit=100, after=None))[0]]

    def events(self, session_id: str) -> tuple[Event, ...]:
        return self.call(self.book.events(session_id, after=0, limit=10_000))[0]

    def said(self, session_id: str) -> list[str]:
        """The messages that a session accepted."""
        return [event.body.content for event in self.events(session_id) if event.body.type == "message.accepted"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; every test copies it."""
    file = tmp_path_factory.mktemp("template") / "greenroom.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def settings() -> dict[str, Any]:
    """Settings of the server; tests override them by parameters."""
    return {}


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Edge, uvicorn.Server]]:
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        new_id = uuid7_ids(clock)
        database: Database = await stack.enter_async_context(store.open_database(settings))
        payloads = Payloads(ClearText())
        journal = SqlJournal(database, payloads)
        model, sandboxes = LedLLM(), FakeSandboxes()
        host = session_host(
            settings,
            journal=journal,
            llm=model,
            sandboxes=sandboxes,
            memories=DictMemories(),
            audit=ListAudit(),
            clock=clock,
        )
        stack.push_async_callback(host.drain, grace_s=0)
        keys: ApiKeys = store.api_keys(settings, database, clock)
        await keys.ensure_user(USER, ADMIN)
        key = await keys.create(user_id=USER, name="test", scopes=frozenset({ADMIN}))
        book, approvals = SessionBook(database, payloads, journal, clock), ApprovalBook(database, payloads)
        services = Services(
            settings=settings,
            clock=clock,
            new_id=new_id,
            sessions=host,
            sandboxes=sandboxes,
            workspaces=Workspaces(
                book, sandbox_guard(settings, sandboxes, audit=ListAudit(), clock=clock, new_id=new_id)
            ),
            book=book,
            approvals=approvals,
            costs=cost_reports(settings, database, book, model, clock),
            keys=keys,
            llm=model,
            started=clock.monotonic(),
            version="1.2.3",
            tools=tool_names(settings, clock),
        )
        config = uvicorn.Config(
            create_api(services), port=0, log_level="error", ws="none", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        yield (
            Edge("", key, host, journal, book, approvals, model, sandboxes, asyncio.get_running_loop()),
            server,
        )


@pytest.fixture
def backend(tmp_path: Path, empty_database: Path, settings: dict[str, Any]) -> Iterator[Edge]:
    """A server of its own for each test, on a port that the kernel picked."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "greenroom.db")
    ready = threading.Event()
    opened: list[tuple[Edge, uvicorn.Server]] = []

    async def serve() -> None:
        async with _opened(Settings(home=home, **settings)) as (edge, server):
            opened.append((edge, server))
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            edge.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            ready.set()
            await serving

    with structlog.testing.capture_logs():
        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert ready.wait(20)
        edge, server = opened[0]
        yield edge
        server.should_exit = server.force_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def signed_in(page: Page, backend: Edge) -> Page:
    """The page of the admin, at the empty state."""
    page.goto(f"/#key={backend.key}")
    expect(page.get_by_role("heading", name="What would you like to do?")).to_be_visible()
    return page


@pytest.fixture
def ask_first(signed_in: Page) -> Callable[[], None]:
    """Ticks the box of new sessions that says: ask me before running code."""
    return lambda: signed_in.get_by_label("Ask me before running code").check()
