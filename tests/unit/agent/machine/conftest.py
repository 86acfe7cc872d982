"""The stage for plays: hosts, models and tools on one event loop without threads, which turns as far as it is told."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings

from actors.agent.journal import Activation, Append
from actors.agent.orders import Resolve, Resume
from actors.agent.state import SessionState
from actors.agent.transcript_rules import AnthropicRules, OpenAIRules, first_fault
from actors.core import telemetry
from actors.core.errors import (
    ApprovalNotPending,
    AtCapacity,
    Draining,
    Fenced,
    GreenroomError,
    SessionLost,
    SessionNotFound,
    StoreUnavailable,
)
from actors.core.events import Event
from actors.llm.base import Answer
from actors.sandbox.base import ExecResult, OnOutput
from actors.testing import ScriptedLLM, says
from actors.testing.history import History
from actors.testing.llm import Script
from actors.testing.sandboxes import FakeSandboxes

# For a night: pytest --hypothesis-profile=night tests/unit/agent/machine
settings.register_profile("night", max_examples=50_000)

USER = "user_1"
GUARDED = "run_python"
TROUBLE = (Fenced, StoreUnavailable, SessionLost, Draining, AtCapacity)
"""What any call may raise because of hosts and databases; the caller asks again."""
FAR = 2000
"""Turns of the loop after which everything that can go on has gone on."""


class Model(ScriptedLLM):
    """Follows the stage's scripts; every call that it makes is one that nobody made before."""

    def __init__(self, stage: "Stage") -> None:
        super().__init__()
        self._stage = stage
        self._numbers = itertools.count(1)

    def _next_script(self) -> Script:
        script = self._stage.scripts.popleft() if self._stage.scripts else says("Done.")
        return [self._fresh(step) for step in script]

    def _fresh(self, step: Any) -> Any:
        if isinstance(step, asyncio.Event):
            return self._stage.gate()
        if not isinstance(step, Answer):
            return step
        calls = step.message.tool_calls
        made = [replace(c, arguments=c.arguments.replace("#", f"#{next(self._numbers)}")) for c in calls]
        return replace(step, message=replace(step.message, tool_calls=tuple(made)))


class Tools(FakeSandboxes):
    """Runs nothing; a command that begins with `slow` says something and waits at a gate."""

    def __init__(self, stage: "Stage") -> None:
        super().__init__()
        self._stage = stage

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        self._stage.commands.append(command)
        if command.startswith("slow"):
            if on_output is not None:
                on_output("half of it\n")
            await self._stage.gate().wait()
        return ExecResult("ok", 0, "done\n")

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self.shell(session_id, code, timeout_s=timeout_s, on_output=on_output)


class Wire:
    """A host's way to the journal, on which appends are lost, or their answers, or everything."""

    def __init__(self, journal: Any, written: Callable[[Append], None]) -> None:
        self.faults: deque[str] = deque()
        """Of the next appends: `before` it arrives, `after`, or none."""
        self._journal = journal
        self._written = written
        self._dead = False

    def cut(self) -> None:
        self._dead = True

    async def append(self, append: Append) -> None:
        self._check()
        fault = self.faults.popleft() if self.faults else None
        if fault == "before":
            raise StoreUnavailable("lost on its way there")
        await self._journal.append(append)
        self._written(append)
        if fault == "after":
            raise StoreUnavailable("the answer was lost")
        self._check()

    async def activate(self, session_id: str, user_id: str | None = None) -> Activation:
        self._check()
        return await self._journal.activate(session_id, user_id)

    async def read(self, session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        self._check()
        return await self._journal.read(session_id, after=after, limit=limit)

    async def overtaken(self, epochs: Mapping[str, int]) -> tuple[str, ...]:
        self._check()
        return await self._journal.overtaken(epochs)

    def _check(self) -> None:
        if self._dead:
            raise StoreUnavailable("the process is dead")


@dataclass
class Call:
    """Something that somebody asked for, and what its answer is checked with."""

    task: "asyncio.Task[Any]"
    check: Callable[[Any], None] | None
    allowed: tuple[type[GreenroomError], ...]
    host: Any
    repeats: bool


class Stage:
    """Hosts over one journal, all that was asked of them, and all that was written."""

    def __init__(self, make_world: Callable[[], Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self.scripts: deque[Script] = deque()
        """What models say next."""
        self.commands: list[str] = []
        """Every command that a tool was run with; each call has one of its own."""
        self.calls: list[Call] = []
        self.sessions: set[str] = set()
        """Names of all that there may be."""
        self.histories: dict[str, History] = {}
        self.deleted: set[str] = set()
        self._aside = asyncio.new_event_loop()
        self._complaints: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self._complaints.append(context))
        self._opening = make_world()
        self.world = self.loop.run_until_complete(self._opening.__aenter__())
        self.world.database._run = _inline
        self._model = Model(self)
        self._gates: list[asyncio.Event] = []
        self._written: list[Append] = []
        self._unread: set[str] = set()
        self._counts = _counts()

    def host(self, **limits: Any) -> Any:
        wire: Any = Wire(self.world.line().journal, self._wrote)
        return self.world.host(self._model, line=wire, sandboxes=Tools(self), approval_tools=(GUARDED,), **limits)

    def _wrote(self, append: Append) -> None:
        self._written.append(append)
        self._unread.add(append.session_id)

    def gate(self) -> asyncio.Event:
        self._gates.append(asyncio.Event())
        return self._gates[-1]

    def open_gates(self) -> None:
        for gate in self._gates:
            gate.set()

    def call(
        self,
        asked: Coroutine[Any, Any, Any],
        check: Callable[[Any], None] | None = None,
        *allowed: type[GreenroomError],
        host: Any = None,
        repeats: bool = False,
    ) -> None:
        """Ask a host for something; `look` sees to the answer."""
        self.calls.append(Call(self.loop.create_task(asked), check, (*TROUBLE, *allowed), host, repeats))

    def kill(self, host: Any) -> None:
        """As a process is killed: nothing of it is written any more, and what it was doing is gone."""
        host._journal.cut()
        for session in host._sessions.values():
            if session._running is not None:
                session._running.task.cancel()
        for call in self.calls:
            if call.host is host:
                call.task.cancel()

    def go(self, turns: int | None = None) -> None:
        """Let the loop turn so often, or as far as it can without waiting for what time alone brings."""
        for _ in range(FAR if turns is None else turns):
            if not self.loop._ready:  # pyright: ignore[reportAttributeAccessIssue] # nothing public tells
                break
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def now(self, asked: Coroutine[Any, Any, Any]) -> Any:
        """Ask the database alone, while everything else stands still."""
        return self._aside.run_until_complete(asked)

    def living(self) -> list[History]:
        return [history for session, history in self.histories.items() if session not in self.deleted]

    def look(self, *, everywhere: bool = False) -> None:
        """Read on in the journal, and then see to the answers that came."""
        sessions, self._unread = self.sessions if everywhere else self._unread, set()
        for session in sorted(sessions - self.deleted):
            self._read(session)
        for call in [call for call in self.calls if call.task.done()]:
            self.calls.remove(call)
            self._answered(call)

    def _read(self, session: str) -> None:
        history = self.histories.get(session) or History(session, guarded=frozenset({GUARDED}))
        try:
            events = self.now(self.world.journal.read(session, after=len(history.events), limit=1000))
        except SessionNotFound:
            assert not history.events
            return
        self.histories[session] = history
        for event in events:
            history.take(event)

    def _answered(self, call: Call) -> None:
        if call.task.cancelled():
            return
        error = call.task.exception()
        if error is None:
            if call.check is not None:
                call.check(call.task.result())
        elif not isinstance(error, call.allowed) and not (isinstance(error, SessionNotFound) and self.deleted):
            raise error

    def to_wake(self) -> list[str]:
        """Sessions that can go on, or in which nobody decided in time: what the directory looks for."""
        journal = self.world.journal
        due = self.now(journal.due(self.world.clock.now(), limit=100))
        return list(dict.fromkeys((*self.now(journal.unfinished(limit=100)), *due)))

    # At rest ----------------------------------------------------------------------------------------------

    def settle(self, at: Callable[[str], Any]) -> None:
        """Let everything come to its end: nobody holds anything back any more."""
        for host in self.world.hosts:
            host._journal.faults.clear()
        for _ in range(60):
            self.open_gates()
            self.go()
            self.look(everywhere=True)
            for history in self.living():
                self._go_on(history, at(history.session_id))
            for session in self.to_wake():
                self.call(at(session).wake(session), None, SessionNotFound)
            self.go()
            if not self.calls and not self.to_wake() and all(not h.state.turns for h in self.living()):
                return
        left = {history.session_id: list(history.state.turns) for history in self.living()}
        raise AssertionError(f"it does not come to rest: {left}, {self.calls}")

    def _go_on(self, history: History, host: Any) -> None:
        running = history.state.running
        if history.state.paused:
            self.call(host.control(history.session_id, USER, Resume()))
        elif running is not None and (asked := running.undecided()) and asked[0].approval is not None:
            order = Resolve(asked[0].approval.id, "approve", None, USER)
            self.call(host.control(history.session_id, USER, order), None, ApprovalNotPending)

    def check_rest(self) -> None:
        """What must hold when nothing is under way."""
        assert self._complaints == []
        for history in self.living():
            history.check_left(self.now(self.world.journal.read(history.session_id, after=0, limit=100_000)))
            self.now(self.world.database.read(history.check_rows))
            self._check_resident(history.session_id)
            appends = [a for a in self._written if a.session_id == history.session_id]
            epochs = [append.epoch for append in sorted(appends, key=lambda append: append.after_seq)]
            assert epochs == sorted(epochs), "an overtaken writer wrote"
        assert len(set(self.commands)) == len(self.commands), "a tool was run twice"
        for request in self._model.requests:
            for rules in (OpenAIRules(), AnthropicRules()):
                fault = first_fault(rules, request.messages)
                assert fault is None, fault
        received, enqueued, rejected = (now - then for now, then in zip(_counts(), self._counts, strict=True))
        assert received == enqueued + rejected

    def _check_resident(self, session_id: str) -> None:
        """Whoever may write the session knows it as the journal tells it."""
        activation = self.now(self.world.journal.activate(session_id))
        replayed = SessionState(session_id)
        for event in activation.events:
            replayed.apply(event)
        for host in self.world.hosts:
            resident = host._sessions.get(session_id)
            if resident is not None and resident.log.lost is None and resident.log._epoch == activation.epoch - 1:
                assert resident.log.state == replayed

    def close(self) -> None:
        async def close() -> None:
            await self._opening.__aexit__(None, None, None)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=5)

        self.loop.run_until_complete(close())
        self.loop.close()
        self._aside.close()


async def _inline(threads: Any, connect: Any, work: Any) -> Any:
    """A database that takes its time, and no thread."""
    await asyncio.sleep(0)
    with connect() as connection:
        result = work(connection)
    await asyncio.sleep(0)
    return result


def _counts() -> tuple[float, float, float]:
    counters = (telemetry.INBOX_RECEIVED, telemetry.INBOX_ENQUEUED, telemetry.INBOX_REJECTED)
    received, enqueued, rejected = (counter._value.get() for counter in counters)
    return received, enqueued, rejected


@pytest.fixture
def make_stage(make_world: Callable[[], Any]) -> Callable[[], Stage]:
    return lambda: Stage(make_world)
