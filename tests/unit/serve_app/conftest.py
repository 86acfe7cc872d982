"""The HTTP API in one process: real sessions over SQLite, a scripted model, sandboxes and memories in memory."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from httpx_sse import EventSource, ServerSentEvent

from actors.agent.approval_book import ApprovalBook
from actors.agent.book import SessionBook
from actors.agent.host import SessionHost
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.agent.workspaces import Workspaces
from actors.core.clock import SystemClock
from actors.core.ids import uuid7_ids
from actors.core.settings import Settings
from actors.llm.base import LLM
from actors.sandbox.base import Sandboxes
from actors.security.cipher import ClearText
from actors.security.keys import ADMIN, ApiKeys
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing import ScriptedLLM, StreamingASGITransport, says
from actors.testing.audits import ListAudit
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring import store
from actors.wiring.costs import cost_reports
from actors.wiring.policy import sandbox_guard
from actors.wiring.sessions import session_host, tool_names
from serve_app.api import create_api
from serve_app.services import Services

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors"}


@dataclass
class Edge:
    """The API and the parts behind it.

    `http` and `streaming` carry the admin's key. `http` reads answers whole and, like a server, answers a
    crash with what the API made of it; `streaming` gives the pieces as they come, and the crash itself.
    """

    app: FastAPI
    services: Services
    host: SessionHost
    database: Database
    keys: ApiKeys
    key: str
    journal: SqlJournal
    audit: ListAudit
    http: httpx.AsyncClient
    streaming: httpx.AsyncClient

    def client(self, key: str | None) -> httpx.AsyncClient:
        """A client of its own, e.g. of another user; close it yourself."""
        return _client(httpx.ASGITransport(self.app, raise_app_exceptions=False), key)

    async def passivate(self) -> None:
        """Every session leaves memory, as when it was idle for long, or when another process takes it over."""
        await _until(lambda: not any(session.busy for session in self.host._sessions.values()))
        for session in list(self.host._sessions.values()):
            self.host._drop(session)

    async def trim(self) -> None:
        """Delete the events of every session that is idle, as if they were old."""
        await self.passivate()
        assert await self.journal.trim(self.services.clock.now() + timedelta(seconds=1), limit=100)

    def mend(self) -> None:
        """From now on the routes ask the sessions themselves, whatever stood between them."""
        self.app.state.services = replace(self.services, sessions=self.host)

    def beside(self, app: FastAPI) -> httpx.AsyncClient:
        """The admin's client of another replica; close it yourself."""
        return _client(httpx.ASGITransport(app, raise_app_exceptions=False), self.key)

    async def key_of(self, user_id: str, *scopes: str) -> str:
        await self.keys.ensure_user(user_id, user_id)
        return await self.keys.create(user_id=user_id, name="test", scopes=frozenset(scopes))

    async def say(self, message: str, **members: Any) -> dict[str, Any]:
        """Chat as JSON, which must succeed."""
        response = await self.http.post("/api/v1/chat", json={"message": message, **members})
        assert response.status_code == 200, response.text
        return response.json()

    async def ended(self, turn_id: str) -> dict[str, Any]:
        """A turn when it has ended; fails after ten seconds."""
        async with asyncio.timeout(10):
            while True:
                turn = (await self.http.get(f"/api/v1/turns/{turn_id}")).json()
                if turn["finished_at"] is not None:
                    return turn

    async def until_turn(self, turn_id: str, status: str) -> None:
        """Waits until the turn is said to be so; fails after ten seconds."""
        async with asyncio.timeout(10):
            while (await self.http.get(f"/api/v1/turns/{turn_id}")).json()["status"] != status:
                pass

    async def events(self, session_id: str) -> list[dict[str, Any]]:
        """The whole journal of a session."""
        found: list[dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            page = await self.http.get(f"/api/v1/sessions/{session_id}/events", params={"after": after})
            assert page.status_code == 200, page.text
            found += page.json()["data"]
            if not page.json()["has_more"]:
                return found


def _client(transport: httpx.AsyncBaseTransport, key: str | None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


MakeEdge = Callable[..., Awaitable[Edge]]


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What was logged, as data: rendering tracebacks takes longer than the tests."""
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; every test copies it."""
    file = tmp_path_factory.mktemp("template") / "greenroom.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
async def make_edge(tmp_path: Path, empty_database: Path) -> AsyncIterator[MakeEdge]:
    async with AsyncExitStack() as stack:

        async def make(
            llm: LLM | None = None,
            *,
            sandboxes: Sandboxes | None = None,
            sessions: Callable[[SessionHost], Any] = lambda host: host,
            services: dict[str, Any] | None = None,
            budgets: Callable[[Database], Any] = lambda _: None,
            **settings: Any,
        ) -> Edge:
            home = tmp_path / "home"
            home.mkdir()
            shutil.copy(empty_database, home / "greenroom.db")
            # Commands are names in a script here, and no programs: the policy has tests of its own.
            chosen = Settings(home=home, **{"policy_allowed_commands": ("*",), **settings})
            clock = SystemClock()
            new_id = uuid7_ids(clock)
            database = await stack.enter_async_context(store.open_database(chosen))
            payloads = Payloads(ClearText())
            journal = SqlJournal(database, payloads)
            model = llm or ScriptedLLM(otherwise=says("Hello", " world"))
            boxes = sandboxes or FakeSandboxes()
            audit = ListAudit()
            host = session_host(
                chosen,
                journal=journal,
                llm=model,
                sandboxes=boxes,
                memories=DictMemories(),
                audit=audit,
                clock=clock,
                budgets=budgets(database),
            )
            stack.push_async_callback(host.drain, grace_s=0)
            keys = store.api_keys(chosen, database, clock)
            book = SessionBook(database, payloads, journal, clock)
            guard = sandbox_guard(chosen, boxes, audit=audit, clock=clock, new_id=new_id)
            parts = Services(
                settings=chosen,
                clock=clock,
                new_id=new_id,
                sessions=sessions(host),
                sandboxes=boxes,
                workspaces=Workspaces(book, guard),
                book=book,
                approvals=ApprovalBook(database, payloads),
                costs=cost_reports(chosen, database, book, model, clock),
                keys=keys,
                llm=model,
                started=clock.monotonic(),
                version="1.2.3",
                tools=tool_names(chosen, clock),
            )
            parts = replace(parts, **(services or {}))
            await keys.ensure_user("user_admin", ADMIN)
            key = await keys.create(user_id="user_admin", name="test", scopes=frozenset({ADMIN}))
            app = create_api(parts)
            http = _client(httpx.ASGITransport(app, raise_app_exceptions=False), key)
            streaming = _client(StreamingASGITransport(app), key)
            await stack.enter_async_context(http)
            await stack.enter_async_context(streaming)
            return Edge(app, parts, host, database, keys, key, journal, audit, http, streaming)

        yield make


@pytest.fixture
async def edge(make_edge: MakeEdge) -> Edge:
    """The API over a model that always says `Hello world`."""
    return await make_edge()


@pytest.fixture
async def stranger(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    """Another user of `edge`, with every right."""
    async with edge.client(await edge.key_of("user_other", ADMIN)) as client:
        yield client


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Waits until a condition holds, while everything else goes on; fails after ten seconds."""
    return _until


@pytest.fixture
def problem_of() -> Callable[[httpx.Response, int, str], dict[str, Any]]:
    """Checks that an answer is a problem document of that status and code, and returns it."""

    def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
            response.status_code,
            response.text,
        )
        body = response.json()
        assert body.keys() >= PROBLEM_MEMBERS
        assert body["type"] == f"urn:greenroom:problem:{code}"
        assert body["code"] == code
        assert body["status"] == status
        assert body["title"]
        assert body["detail"]
        assert body["instance"] == response.request.url.path
        assert body["request_id"] == response.headers["request-id"]
        assert isinstance(body["retryable"], bool)
        assert ("retry-after" in response.headers) == body["retryable"]
        return body

    return check


@pytest.fixture
def parse() -> Callable[[bytes], list[ServerSentEvent]]:
    """Frames of a whole stream, read as a browser reads them; `data` is checked to be JSON."""

    def decode(text: bytes) -> list[ServerSentEvent]:
        response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text)
        found = [event for event in EventSource(response).iter_sse() if event.data]
        for event in found:
            event.json()
        return found

    return decode


@pytest.fixture
def read_until() -> Callable[..., Awaitable[bytes]]:
    """Reads a streamed answer until `enough` of what came; fails when the stream ends before."""

    async def read(response: httpx.Response, enough: Callable[[bytes], bool]) -> bytes:
        got = b""
        async for piece in response.aiter_raw():
            got += piece
            if enough(got):
                return got
        raise AssertionError(f"the stream ended early: {got!r}")

    return read
