"""Whatever models, tools, users and hosts do: the journal that comes of it keeps the promises P2, P3, P4, P6 and P9."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.agent.host import SessionHost
from actors.agent.sessions import Submit
from actors.agent.state import SessionState
from actors.agent.tables import SESSIONS, TURNS
from actors.core.errors import ModelUnavailable
from actors.core.events import (
    TERMINAL,
    Event,
    MessageAccepted,
    MessageCompleted,
    Spent,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnStarted,
    UsageUpdated,
)
from actors.core.messages import Usage
from actors.llm.base import Answer, ReasoningText, TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.llm import Script
from actors.testing.sandboxes import FakeSandboxes

HANGING = "sleep infinity"


class Hang(asyncio.Event):
    """A step of a script that is never over, and says when it is reached."""

    reached = 0

    async def wait(self) -> Any:
        self.reached += 1
        try:
            return await super().wait()
        finally:
            self.reached -= 1


@dataclass(frozen=True)
class Do:
    """Something that happens to the session. `which` chooses among what is there."""

    what: str
    which: int = 0


TOOLS = st.sampled_from(
    [
        ("run_shell", {"command": "echo hi"}),
        ("run_shell", {"command": HANGING}),
        ("run_shell", {"nonsense": 1}),
        ("remember", {"text": "the user likes tea"}),
        ("no_such_tool", {}),
    ]
)
PRICES = st.sampled_from([Decimal(0), Decimal("0.0000011"), Decimal("0.25"), None])
TEXT = st.sampled_from(["Yes.", "One two.", "né 漢字 🙂", " ", ""])


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """What a model does with one call."""
    kind = draw(st.sampled_from(["text", "text", "tools", "tools", "silent", "error", "broken", "hang", "length"]))
    text, price = draw(TEXT), draw(PRICES)
    match kind:
        case "tools":
            wanted = draw(st.lists(TOOLS, min_size=1, max_size=3))
            return calls(*wanted, text=text)
        case "silent":
            return [ReasoningText("hm"), *says(cost_usd=price)]
        case "error":
            return [ModelUnavailable()]
        case "broken":
            return [TextDelta(text), ModelUnavailable()]
        case "hang":
            return [TextDelta(text), Hang()]
        case "length":
            *deltas, answer = says(text, cost_usd=price)
            assert isinstance(answer, Answer)
            return [*deltas, replace(answer, finish_reason="length")]
        case _:
            return says(text, cost_usd=price)


HAPPENINGS = st.lists(
    st.builds(
        Do,
        st.sampled_from(["say", "say", "settle", "settle", "cancel", "again", "die", "drain", "overtake", "passivate"]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


class Story:
    """One session, and what happens to it."""

    def __init__(self, world: Any, session_id: str, script: list[Script], until: Callable[..., Any]) -> None:
        self.world = world
        self.until = until
        self.session_id = session_id
        self.llm = ScriptedLLM(script, otherwise=says("Done."))
        self.hangs = [step for one in script for step in one if isinstance(step, Hang)]
        self.sandboxes = FakeSandboxes(hanging=[HANGING])
        self.sent: list[Submit] = []
        self.cancelled: set[str] = set()
        self.here = self._host()

    def _host(self) -> SessionHost:
        return self.world.host(self.llm, sandboxes=self.sandboxes, turn_max_steps=4)

    async def happen(self, do: Do) -> None:
        match do.what:
            case "say":
                self.sent.append(self.world.submit(f"message {len(self.sent)}", self.session_id))
                await self.here.submit(self.sent[-1])
            case "again" if self.sent:
                await self.here.submit(self.sent[do.which % len(self.sent)])
            case "cancel" if self.sent:
                await self._cancel(self.sent[do.which % len(self.sent)].turn_id)
            case "settle":
                await self.settle()
            case "passivate":
                self.world.clock.advance(1000)
                await self.here.sweep()
            case "die" if self.sent:
                await self.world.die(self.here)
                await self.move()
            case "drain" if self.sent:
                await self.here.drain(grace_s=0)
                await self.move()
            case "overtake" if self.sent:
                await self.move()  # the other one knows nothing of it and goes on
            case _:
                pass

    async def _cancel(self, turn_id: str) -> None:
        self.cancelled.add(turn_id)
        await self.here.cancel(self.session_id, "user_1", turn_id)

    async def move(self) -> None:
        self.here = self._host()
        await self.here.wake(self.session_id)

    def stuck(self) -> bool:
        """The session waits for something that never comes."""
        commands = sum(run.source == HANGING for run in self.sandboxes.runs) - len(self.sandboxes.cancelled)
        return commands > 0 or any(hang.reached for hang in self.hangs)

    async def settle(self) -> None:
        await self.until(lambda: not self.here.status().running or self.stuck())

    async def end(self) -> None:
        """Cancel what never ends by itself, until nothing is open."""
        async with asyncio.timeout(10):
            while True:
                state = await self.world.state(self.session_id)
                if not state.turns:
                    return
                await self.here.wake(self.session_id)
                await self.settle()
                if (running := state.running) is not None:
                    await self._cancel(running.id)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(scripts(), max_size=8), happenings=HAPPENINGS)
def test_no_story_breaks_the_promises(
    script: list[Script],
    happenings: list[Do],
    make_world: Callable[..., Any],
    until: Callable[..., Any],
    check_openai: Callable[..., None],
    check_anthropic: Callable[..., None],
) -> None:
    async def story() -> None:
        async with make_world() as world:
            told = Story(world, "sess_1", script, until)
            for do in happenings:
                await told.happen(do)
            if not told.sent:
                return
            await told.end()
            events = await world.events("sess_1")
            check_numbers(events)
            check_turns(events, told.sent)
            assert {e.turn_id for e in events if isinstance(e.body, TurnCancelled)} <= told.cancelled
            check_tools(events)
            for messages in [request.messages for request in told.llm.requests] + transcripts(events):
                check_openai(messages)
                check_anthropic(messages)
            check_replay(events, told.here)
            await check_ledger(world, events)

    asyncio.run(story())


def check_numbers(events: list[Event]) -> None:
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def check_turns(events: list[Event], sent: list[Submit]) -> None:
    accepted = [str(e.turn_id) for e in events if isinstance(e.body, MessageAccepted)]
    assert accepted == [command.turn_id for command in sent], "a message was lost, repeated or reordered"
    ended = [str(e.turn_id) for e in events if isinstance(e.body, TERMINAL)]
    assert sorted(ended) == sorted(accepted), "not exactly one terminal event for each turn"
    running: str | None = None
    for event in events:
        if isinstance(event.body, TurnStarted):
            assert running is None, f"{event.turn_id} started while {running} ran"
            running = event.turn_id
        elif isinstance(event.body, TERMINAL):
            running = None if event.turn_id == running else running
        elif isinstance(event.body, MessageCompleted | ToolRequested | ToolStarted | ToolCompleted | UsageUpdated):
            assert event.turn_id == running, f"{event.body.type} of {event.turn_id} while {running} ran"


def check_tools(events: list[Event]) -> None:
    requested = [(e.turn_id, e.body.call.id) for e in events if isinstance(e.body, ToolRequested)]
    started = [(e.turn_id, e.body.tool_call_id) for e in events if isinstance(e.body, ToolStarted)]
    outcomes = [
        (e.turn_id, e.body.tool_call_id) for e in events if isinstance(e.body, ToolCompleted | ToolOutcomeUnknown)
    ]
    assert len(set(started)) == len(started), "a tool was run twice"
    assert sorted(outcomes) == sorted(requested), "not exactly one outcome for each call"


def transcripts(events: list[Event]) -> list[list[Any]]:
    """The transcript at each moment at which no turn runs: what the next turn builds on."""
    state = SessionState("sess_1")
    found: list[list[Any]] = []
    for event in events:
        state.apply(event)
        if state.running is None:
            found.append(list(state.transcript))
    return found


def check_replay(events: list[Event], host: SessionHost) -> None:
    state = SessionState("sess_1")
    for event in events:
        state.apply(event)
    session = host._sessions.get("sess_1")
    if session is not None:
        assert state == session.log.state


async def check_ledger(world: Any, events: list[Event]) -> None:
    attempts = await world.attempts("sess_1")
    total = Spent()
    for event in events:
        if isinstance(event.body, UsageUpdated):
            total += event.body.spent
            assert event.body.session == total
    usage = sum((attempt.usage for attempt in attempts), Usage())
    assert usage == total.usage
    assert sum(attempt.cost_micros or 0 for attempt in attempts) == total.cost_micros
    accounted = {e.body.attempt_id for e in events if isinstance(e.body, UsageUpdated)}
    assert {attempt.id for attempt in attempts} == accounted, "an attempt was left open"
    by_turn = {
        e.turn_id: sum((a.cost_micros or 0) for a in attempts if a.turn_id == e.turn_id)
        for e in events
        if isinstance(e.body, TERMINAL)
    }
    assert by_turn == {e.turn_id: e.body.spent.cost_micros for e in events if isinstance(e.body, TERMINAL)}
    row = await world.database.read(lambda c: c.execute(sa.select(SESSIONS)).one())
    assert (row.prompt_tokens, row.completion_tokens) == (usage.prompt_tokens, usage.completion_tokens)
    assert (row.cost_micros, row.cost_known) == (total.cost_micros, total.cost_known)
    assert row.cost_known == all(attempt.cost_micros is not None for attempt in attempts)
    assert row.status == "idle"
    open_turns = await world.database.read(lambda c: c.execute(sa.select(TURNS).where(TURNS.c.finished_at.is_(None))))
    assert not list(open_turns)
