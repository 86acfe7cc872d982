"""A browser at the chat page, and a backend that speaks its HTTP surface and plays scripted turns."""

import asyncio
import itertools
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

UI = Path(__file__).parents[3] / "serve_app" / "ui"
CSP = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
KEY = "grk_right"
USAGE = {"prompt_tokens": 900, "completion_tokens": 100, "cached_tokens": 0, "reasoning_tokens": 0}
SPENT = {"usage": USAGE, "cost_micros": 1500, "cost_known": True}
NOTHING = {"usage": dict.fromkeys(USAGE, 0), "cost_micros": 0, "cost_known": True}

expect.set_options(timeout=10_000)


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).isoformat().replace("+00:00", "Z")


def plus(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    usage = {name: left["usage"][name] + right["usage"][name] for name in USAGE}
    return {"usage": usage, "cost_micros": left["cost_micros"] + right["cost_micros"], "cost_known": True}


class TurnFailed(Exception):
    """Raised by a step to end its turn as failed."""


@dataclass
class FakeSession:
    id: str
    model: str
    title: str | None = None
    created_at: str = field(default_factory=now)
    spent: dict[str, Any] = field(default_factory=lambda: NOTHING)
    events: list[dict[str, Any]] = field(default_factory=list)
    previews: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    readers: set[asyncio.Queue[str | None]] = field(default_factory=set)
    turns: asyncio.Queue["FakeTurn"] = field(default_factory=asyncio.Queue)
    status: str = "idle"

    def wire(self) -> dict[str, Any]:
        """The session as the API describes it."""
        micros = self.spent["cost_micros"]
        return {
            "id": self.id, "title": self.title, "model": self.model, "system": None, "metadata": {},
            "status": self.status, "created_at": self.created_at, "updated_at": now(), "last_seq": len(self.events),
            "usage": self.spent["usage"], "cost": {"micros": micros, "usd": f"{micros / 1e6:.6f}", "known": True},
        }  # fmt: skip

    def emit(self, kind: str, turn_id: str | None, **body: Any) -> None:
        """Number an event, keep it and tell every reader."""
        envelope = {"seq": len(self.events) + 1, "session_id": self.id, "turn_id": turn_id, "created_at": now()}
        event = {"type": kind, **envelope, **body}
        self.events.append(event)
        self.tell(frame(event))

    def preview(self, kind: str, turn_id: str, member: str, owner: str, text: str) -> None:
        """Send text from where the last preview of the same thing ended."""
        whole = self.previews.setdefault(
            (kind, owner), {"type": kind, "turn_id": turn_id, member: owner, "offset": 0, "text": ""}
        )
        part = {**whole, "offset": len(whole["text"]), "text": text}
        whole["text"] += text
        self.tell(frame(part))

    def tell(self, text: str | None) -> None:
        for reader in self.readers:
            reader.put_nowait(text)


def frame(data: dict[str, Any]) -> str:
    number = f"id: {data['seq']}\n" if "seq" in data else ""
    return f"{number}event: {data['type']}\ndata: {json.dumps(data)}\n\n"


@dataclass
class FakeTurn:
    id: str
    session: FakeSession
    steps: tuple["Step", ...]
    new_id: Callable[[str], str]
    status: str = "queued"
    message_id: str = ""
    text: str = ""
    spent: dict[str, Any] = field(default_factory=lambda: NOTHING)
    calls: int = 0
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Play the steps and end with exactly one terminal event."""
        self.status = self.session.status = "running"
        self.message_id = self.new_id("msg")
        self.session.emit("turn.started", self.id, message_id=self.message_id, model=self.session.model)
        try:
            for step in self.steps:
                await step(self)
            self.complete_message()
            self.end("completed", stop_reason="end_turn")
        except TurnFailed as failure:
            self.end("failed", error={"code": "model_unavailable", "message": str(failure), "retryable": True})
        except asyncio.CancelledError:
            self.end("cancelled", stopped=["model"])

    def complete_message(self, *calls: dict[str, str]) -> None:
        """Journal the message written so far, and account for it."""
        body = {"message_id": self.message_id, "content": self.text, "model": self.session.model, "provider": None}
        thought = self.session.previews.get(("reasoning.delta", self.message_id), {}).get("text")
        more = {"tool_calls": list(calls), "reasoning": thought, "reasoning_details": []}
        finish = "tool_calls" if calls else "stop"
        self.session.emit("message.completed", self.id, finish_reason=finish, **body, **more)
        self.spent = plus(self.spent, SPENT)
        self.session.spent = plus(self.session.spent, SPENT)
        account = {"attempt_id": self.new_id("att"), "model": self.session.model, "cost_source": "price_list"}
        self.session.emit("usage.updated", self.id, spent=SPENT, session=self.session.spent, **account)
        self.message_id, self.text = self.new_id("msg"), ""
        self.session.previews.clear()

    def end(self, status: str, **body: Any) -> None:
        self.status, self.session.status = status, "idle"
        self.session.previews.clear()
        self.session.emit(f"turn.{status}", self.id, steps=1, spent=self.spent, **body)
        self.ended.set()


Step: TypeAlias = Callable[[FakeTurn], Awaitable[None]]


class FakeBackend:
    """State of the server, the routes, and the steps that tests make turns of."""

    def __init__(self) -> None:
        self.sessions: dict[str, FakeSession] = {}
        self.turns: dict[str, FakeTurn] = {}
        self.scripts: list[tuple[Step, ...]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.health: dict[str, Any] = {"status": "healthy", "checks": []}
        self.streams_refused = False
        self.overlap = 0  # events that a resumed stream repeats
        self.chat_refused: str | None = None
        self.keys: dict[str, dict[str, Any]] = {}  # answers to messages, by their Idempotency-Key
        self.url = ""
        self.key = KEY
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._numbers = itertools.count(1)

    # What tests say --------------------------------------------------------------------------------

    def script(self, *steps: Step) -> None:
        """What the next turn that has no script yet will do."""
        self.scripts.append(steps)

    def text(self, text: str, size: int = 7) -> Step:
        """The model writes, in pieces of so many characters."""

        async def write(turn: FakeTurn) -> None:
            for at in range(0, len(text), size):
                turn.text += text[at : at + size]
                turn.session.preview("message.delta", turn.id, "message_id", turn.message_id, text[at : at + size])
                await asyncio.sleep(0)

        return write

    def thought(self, text: str) -> Step:
        async def think(turn: FakeTurn) -> None:
            turn.session.preview("reasoning.delta", turn.id, "message_id", turn.message_id, text)

        return think

    def tool(
        self, name: str, arguments: dict[str, Any], content: str, error: str | None = None, progress: str = "",
        gate: str | None = None, lost: bool = False, decision: str | None = None,
    ) -> Step:  # fmt: skip
        """The model calls a tool, which waits for the gate after its progress; `lost`: its outcome is unknown.

        With a `decision` a person is asked before it; `never` is none.
        """

        async def call(turn: FakeTurn) -> None:
            turn.calls += 1
            request = {"id": f"call_{turn.calls}", "name": name, "arguments": json.dumps(arguments)}
            turn.complete_message(request)
            turn.session.emit("tool.requested", turn.id, call=request)
            which = {"tool_call_id": request["id"], "name": name}
            if decision:
                approval = {"approval_id": turn.new_id("appr"), "tool_call_id": request["id"]}
                asked = {"name": name, "arguments": request["arguments"], "expires_at": tomorrow(), "on_expiry": "deny"}
                turn.session.emit("approval.requested", turn.id, **approval, **asked)
                turn.session.emit("turn.waiting", turn.id, reason="approval")
                if decision == "never":
                    await asyncio.Event().wait()
                outcome = {"decision": decision, "by": "user_other", "reason": "because " * 20}
                turn.session.emit("approval.resolved", turn.id, **approval, **outcome)
                turn.session.emit("turn.resumed", turn.id)
            turn.session.emit("tool.started", turn.id, **which)
            if progress:
                turn.session.preview("tool.progress", turn.id, "tool_call_id", request["id"], progress)
            if gate:
                await self._gate(gate).wait()
            if lost:
                turn.session.emit("tool.outcome_unknown", turn.id, **which)
                return
            outcome = {"content": content, "error": error, "duration_ms": 1234, "data": {"exit_code": int(bool(error))}}
            turn.session.emit("tool.completed", turn.id, **which, **outcome)

        return call

    def hold(self, gate: str) -> Step:
        async def wait(turn: FakeTurn) -> None:
            await self._gate(gate).wait()

        return wait

    def cut(self) -> Step:
        """Every open stream ends."""

        async def close(turn: FakeTurn) -> None:
            turn.session.tell(None)

        return close

    def fail(self, message: str) -> Step:
        async def give_up(turn: FakeTurn) -> None:
            raise TurnFailed(message)

        return give_up

    def restart(self) -> Step:
        """Another process goes on with the turn: what was written is lost."""

        async def recover(turn: FakeTurn) -> None:
            turn.text, turn.message_id = "", turn.new_id("msg")
            turn.session.previews.clear()
            turn.session.emit("turn.recovering", turn.id, recoveries=1)

        return recover

    def release(self, gate: str) -> None:
        """Let what holds at the gate go on."""
        self.call(lambda: self._gate(gate).set())

    def cut_streams(self) -> None:
        """End every open stream from outside a turn."""
        self.call(lambda: [session.tell(None) for session in self.sessions.values()])

    def readers(self) -> int:
        """Open event streams."""
        return sum(len(session.readers) for session in self.sessions.values())

    def call(self, act: Callable[[], Any]) -> None:
        """Run on the server's loop, where all state is changed."""
        assert self.loop
        self.loop.call_soon_threadsafe(act)

    def add_session(self, title: str) -> FakeSession:
        session = FakeSession(self._new_id("sess"), "demo", title)
        session.emit("session.created", None, user_id="user_1", model="demo", system=None, metadata={})
        self.sessions[session.id] = session
        return session

    # Routes ----------------------------------------------------------------------------------------

    def app(self) -> Starlette:
        api = [
            Route("/sessions", self._list),
            Route("/sessions/{id}", self._session, methods=["GET", "DELETE"]),
            Route("/sessions/{id}/events", self._events),
            Route("/chat", self._chat, methods=["POST"]),
            Route("/turns/{id}/cancel", self._cancel, methods=["POST"]),
            Route("/models", self._models),
        ]
        routes = [Route("/", self._page), Route("/health", self._health), Mount("/api/v1", routes=api)]
        return Starlette(routes=[*routes, Mount("/ui", StaticFiles(directory=UI))])

    async def _page(self, request: Request) -> Response:
        return FileResponse(UI / "index.html", headers={"Content-Security-Policy": CSP})

    async def _health(self, request: Request) -> Response:
        status = 503 if self.health["status"] == "unhealthy" else 200
        return JSONResponse({**self.health, "timestamp": now(), "uptime": 1, "version": "0.1.0"}, status)

    def _refusal(self, request: Request) -> Response | None:
        self.requests.append((request.method, request.url.path, dict(request.headers)))
        if request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return problem(401, "unauthenticated", "That API key is not known here.")

    async def _models(self, request: Request) -> Response:
        models = [{"id": "demo", "name": "Demo"}, {"id": "large", "name": "Large"}]
        return self._refusal(request) or JSONResponse({"object": "list", "data": models, "default": "demo"})

    async def _list(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        ids = sorted(self.sessions, reverse=True)
        start = ids.index(request.query_params["after"]) + 1 if "after" in request.query_params else 0
        page = ids[start : start + int(request.query_params["limit"])]
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        rest = {"object": "list", "has_more": start + len(page) < len(ids), **ends}
        return JSONResponse({"data": [self.sessions[each].wire() for each in page], **rest})

    async def _session(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        session = self.sessions.get(request.path_params["id"])
        if session is None:
            return problem(404, "session_not_found", "There is no such session.")
        if request.method == "GET":
            return JSONResponse(session.wire())
        del self.sessions[session.id]
        session.tell(None)
        return Response(status_code=204)

    async def _events(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        session = self.sessions.get(request.path_params["id"])
        if session is None:
            return problem(404, "session_not_found", "There is no such session.")
        if "text/event-stream" in request.headers["accept"]:
            if self.streams_refused:
                return problem(503, "unavailable", "Not now.")
            after = int(request.headers.get("last-event-id") or request.query_params.get("after", 0))
            return StreamingResponse(
                self._stream(session, max(0, after - self.overlap)), media_type="text/event-stream"
            )
        after, limit = int(request.query_params["after"]), int(request.query_params["limit"])
        assert limit <= 100
        page = session.events[after : after + limit]
        last = {"last_seq": len(session.events), "has_more": after + len(page) < len(session.events)}
        return JSONResponse({"object": "list", "data": page, **last})

    async def _stream(self, session: FakeSession, after: int) -> AsyncIterator[str]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        backlog = [frame(event) for event in (*session.events[after:], *session.previews.values())]
        session.readers.add(queue)
        try:
            yield "retry: 1000\n\n" + "".join(backlog)
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), 10)
                except TimeoutError:
                    text = ": ping\n\n"
                if text is None:
                    return
                yield text
        finally:
            session.readers.discard(queue)

    async def _chat(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        assert request.headers["prefer"] == "respond-async"
        if self.chat_refused:
            return problem(429, "at_capacity", self.chat_refused)
        key = request.headers["idempotency-key"]
        if key in self.keys:
            return JSONResponse(self.keys[key], 202, {"Idempotency-Replayed": "true"})
        body = await request.json()
        session = self.sessions.get(body.get("session_id", ""))
        if session is None:
            session = self.add_session(body["message"][:60])
            session.model = body.get("model") or "demo"
        steps = self.scripts.pop(0) if self.scripts else (self.text(f"You said: {body['message']}"),)
        turn = FakeTurn(self._new_id("turn"), session, steps, self._new_id)
        self.turns[turn.id] = turn
        message_id = self._new_id("msg")
        session.emit("message.accepted", turn.id, message_id=message_id, content=body["message"], model=None)
        earlier = [other.task for other in self.turns.values() if other.session is session and other.task]
        turn.task = asyncio.create_task(self._run_after(earlier, turn))
        self.keys[key] = {"session_id": session.id, "turn_id": turn.id, "message_id": message_id}
        return JSONResponse(self.keys[key], 202)

    async def _run_after(self, earlier: list[asyncio.Task[None]], turn: FakeTurn) -> None:
        try:
            await asyncio.wait(earlier) if earlier else None
        except asyncio.CancelledError:
            turn.end("cancelled", stopped=[])
            return
        await turn.run()

    async def _cancel(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        turn = self.turns[request.path_params["id"]]
        assert turn.task
        turn.task.cancel()
        await asyncio.wait_for(turn.ended.wait(), 5)
        return JSONResponse({"id": turn.id, "session_id": turn.session.id, "status": turn.status})

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers):06d}"


def problem(status: int, code: str, detail: str) -> Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, "errors": []}
    return JSONResponse({**body, "retryable": status in (429, 503)}, status, media_type="application/problem+json")


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    """A backend of its own for each test, on a port that the kernel picked."""
    backend = FakeBackend()
    config = uvicorn.Config(
        backend.app(), port=0, log_level="error", ws="none", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        backend.loop = asyncio.get_running_loop()
        await server.serve()
        for turn in backend.turns.values():
            if turn.task and not turn.task.done():
                turn.task.cancel()
                with suppress(asyncio.CancelledError):
                    await turn.task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    backend.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield backend
    server.should_exit = server.force_exit = True
    backend.cut_streams()
    thread.join(10)
    assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ended with each module: Playwright's own event loop must be gone before asynchronous tests run."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*arguments, *quiet])
        yield browser
        browser.close()


@pytest.fixture
def allowed_errors() -> list[str]:
    """Patterns of console errors that the test provokes. Any other one fails it."""
    return []


@pytest.fixture
def page(browser: Browser, backend: FakeBackend, allowed_errors: list[str]) -> Iterator[Page]:
    """A fresh profile. The test fails on console errors, uncaught exceptions and breaches of the CSP."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, base_url=backend.url)
    page = context.new_page()
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
    yield page
    context.close()
    assert [text for text in faults if not any(re.search(allowed, text) for allowed in allowed_errors)] == []


@pytest.fixture
def signed_in(page: Page) -> Page:
    """The page of a user whose key is right, at the empty state."""
    page.goto(f"/#key={KEY}")
    expect(page.get_by_role("heading", name="What would you like to do?")).to_be_visible()
    return page


@pytest.fixture
def send(page: Page) -> Callable[[str], None]:
    """Types a message and presses Enter."""

    def type_and_enter(text: str) -> None:
        page.get_by_label("Message", exact=True).fill(text)
        page.keyboard.press("Enter")

    return type_and_enter
