"""Retention: old events make room for one that stands for them, and a session goes on as if they were there."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agent.orders import Pause, Resume
from actors.agent.retention import cut_of
from actors.agent.sessions import NewSession
from actors.agent.state import SessionState
from actors.core.errors import CursorExpired, Fenced
from actors.core.events import (
    TERMINAL,
    Event,
    HistoryTrimmed,
    MessageAccepted,
    MessageCompleted,
    SessionCreated,
    SessionPaused,
    SessionResumed,
    Spent,
    TurnCompleted,
    TurnStarted,
    UsageUpdated,
)
from actors.core.messages import Usage
from actors.testing import ScriptedLLM, calls, says

START = datetime(2026, 1, 1, tzinfo=UTC)
KEPT_S = 500.0


async def talk(world: Any, host: Any, *texts: str, **changes: Any) -> None:
    """Turns that are a thousand seconds apart."""
    for text in texts:
        await host.chat(world.submit(text, **changes), wait_s=5)
        world.clock.advance(1000)


async def trim(world: Any) -> int:
    """What is older than the last turn or two."""
    return await world.journal.trim(world.clock.now() - timedelta(seconds=1000 + KEPT_S), limit=10)


@pytest.fixture
def llm() -> ScriptedLLM:
    return ScriptedLLM(otherwise=says("yes"))


async def test_one_event_stands_for_those_that_went(world: Any, llm: ScriptedLLM) -> None:
    host = world.host(llm)
    new = NewSession("scripted", "Be brief.", {"a": 1}, approvals=("run_shell",))
    await talk(world, host, "one", "two", "three", new=new)
    before = await world.events()
    assert await trim(world) == 1
    after = await world.events()
    trimmed = after[0]
    assert isinstance(trimmed.body, HistoryTrimmed)
    assert (trimmed.seq, trimmed.turn_id, trimmed.created_at) == (11, None, before[10].created_at)
    assert after[1:] == before[11:]
    created = SessionCreated("user_1", "scripted", "Be brief.", {"a": 1}, ("run_shell",))
    assert trimmed.body == HistoryTrimmed(
        created, "one", 4, 2, before[0].created_at, before[10].created_at, Spent(Usage(20, 2), 20)
    )
    row = await world.book.get("sess_1", "user_1")
    assert (row.oldest_seq, row.last_seq, row.title, row.spent.cost_micros) == (11, 16, "one", 30)
    # What it cost is on the books as before.
    assert len(await world.attempts()) == 3
    assert await trim(world) == 0


async def test_trimmed_again_it_adds_up(world: Any, llm: ScriptedLLM) -> None:
    host = world.host(llm)
    for number in range(4):
        await talk(world, host, f"message {number}")
        await trim(world)
        host = world.host(llm)
    (trimmed,) = await world.bodies(HistoryTrimmed)
    assert (trimmed.messages, trimmed.turns, trimmed.first_at) == (6, 3, START)
    assert (trimmed.title, trimmed.spent.cost_micros) == ("message 0", 30)
    assert len(await world.events()) == 6


async def test_a_resident_host_is_overtaken_and_goes_on(
    world: Any, llm: ScriptedLLM, until: Callable[..., Any], check_anthropic: Callable[..., None]
) -> None:
    host = world.host(llm)
    await talk(world, host, "one", "two", "three")
    await trim(world)
    command = world.submit("four")
    with pytest.raises(Fenced) as caught:
        await host.chat(command, wait_s=5)
    assert caught.value.retryable
    assert (await host.chat(command, wait_s=5)).message == "yes"
    # It was told what is left, and every provider takes it.
    assert [message.content for message in llm.requests[-1].messages[1:]] == ["three", "yes", "four"]
    check_anthropic(llm.requests[-1].messages)
    events = await world.events()
    assert [event.seq for event in events] == list(range(11, 22))
    state = await world.state()
    assert (state, state.spent.cost_micros) == (host._sessions["sess_1"].log.state, 40)
    assert (await world.book.get("sess_1", "user_1")).title == "one"


async def test_readers_are_told_where_history_begins(world: Any, llm: ScriptedLLM) -> None:
    await talk(world, world.host(llm), "one", "two", "three")
    await trim(world)
    host = world.host(llm)
    for after in (1, 10):
        with pytest.raises(CursorExpired) as caught:
            await host.follow("sess_1", "user_1", after=after, seen={}, wait_s=5)
        assert caught.value.details["oldest_seq"] == 11
    everything = await host.follow("sess_1", "user_1", after=0, seen={}, wait_s=5)
    assert [event.body.type for event in everything.events[:2]] == ["history.trimmed", "message.accepted"]
    for after in (11, 13):
        batch = await host.follow("sess_1", "user_1", after=after, seen={}, wait_s=5)
        assert [event.seq for event in batch.events] == list(range(after + 1, 17))


@pytest.mark.parametrize("state", ["running", "queued", "waiting", "paused"])
async def test_a_session_in_which_something_is_to_come_keeps_all(
    world: Any, until: Callable[..., Any], state: str
) -> None:
    llm = ScriptedLLM(
        [says("one"), calls(("run_shell", {"command": "ls"})) if state == "waiting" else [asyncio.Event()]]
    )
    host = world.host(llm, approval_tools=("run_shell",))
    await talk(world, host, "one")
    if state == "paused":
        await host.control("sess_1", "user_1", Pause())
    else:
        await host.submit(world.submit("two"))
        if state == "queued":
            await host.submit(world.submit("three"))
        # A turn that waits for its approval has written that down before it ends.
        await until(lambda: len(llm.requests) == 2 and (not host.status().running if state == "waiting" else llm.open))
    world.clock.advance(100_000)
    before = await world.events()
    assert await trim(world) == 0
    assert await world.events() == before


async def test_sessions_that_were_deleted_or_are_young_or_empty_are_left_alone(world: Any, llm: ScriptedLLM) -> None:
    await world.book.open("empty", "user_1", SessionCreated("user_1", "scripted"))
    host = world.host(llm)
    await talk(world, host, "one", "two", session_id="gone")
    await world.book.delete("gone", "user_1")
    await talk(world, host, "one", session_id="young")
    assert await trim(world) == 0
    assert len(await world.events("empty")) == 1


async def test_so_many_sessions_at_a_time_the_oldest_first(world: Any, llm: ScriptedLLM) -> None:
    host = world.host(llm)
    for name in ("c", "a", "b"):
        await talk(world, host, "one", "two", session_id=name)
    world.clock.advance(100_000)
    trimmed: list[set[str]] = []
    for _ in range(3):
        assert await world.journal.trim(world.clock.now(), limit=1) == 1
        trimmed.append({name for name in "abc" if len(await world.events(name)) == 1})
    assert trimmed == [{"c"}, {"a", "c"}, {"a", "b", "c"}]
    assert await world.journal.trim(world.clock.now(), limit=10) == 0


async def test_what_was_paused_once_is_trimmed_when_it_is_not_any_more(world: Any, llm: ScriptedLLM) -> None:
    host = world.host(llm)
    await talk(world, host, "one")
    for order in (Pause(), Resume()):
        await host.control("sess_1", "user_1", order)
    world.clock.advance(100_000)
    assert await trim(world) == 1
    assert (await world.types(), (await world.state()).paused) == (["history.trimmed"], False)
    assert (await world.host(llm).chat(world.submit("two"), wait_s=5)).message == "yes"


async def test_approvals_and_turns_go_with_their_events(world: Any, until: Callable[..., Any]) -> None:
    shell = calls(("run_shell", {"command": "ls"}))
    host = world.host(ScriptedLLM(otherwise=shell), approval_tools=("run_shell",))
    turns = []
    for _ in range(2):
        command = world.submit()
        turns.append(command.turn_id)
        await host.submit(command)
        await until(lambda: not host.status().running)
        await host.cancel("sess_1", "user_1", command.turn_id)
        world.clock.advance(1000)
    assert len(await world.approvals()) == 2
    await trim(world)
    assert [row.turn_id for row in await world.approvals()] == turns[1:]
    assert (await world.book.turn(turns[1], "user_1")).status == "cancelled"
    assert await world.book.turn_of_message("sess_1", "msg_u1") is None


# Where to cut --------------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(["turn", "two turns", "pause"]), st.integers(0, 3)), max_size=6)


def history(steps: list[tuple[str, int]]) -> list[Event]:
    """Events of a session; each step begins so many seconds after the one before, and takes one a event."""
    events: list[Event] = []
    clock = 0

    def tell(turn: str | None, *bodies: Any) -> None:
        nonlocal clock
        for body in bodies:
            events.append(Event(len(events) + 1, "sess_1", turn, START + timedelta(seconds=clock), body))
            clock += 1

    total = Spent()

    def run(number: int) -> None:
        nonlocal total
        total += Spent(Usage(1, 1), 5)
        tell(
            f"turn_{number}",
            TurnStarted(f"msg_{number}", "m"),
            MessageCompleted(f"ans_{number}", "yes", "m", "stop"),
            UsageUpdated("att", "m", Spent(Usage(1, 1), 5), total),
            TurnCompleted("end_turn", 1, Spent()),
        )

    tell(None, SessionCreated("user_1", "m"))
    for at, (kind, wait) in enumerate(steps):
        clock += wait
        if kind == "pause":
            tell(None, SessionPaused(), SessionResumed())
            continue
        numbers = [2 * at, 2 * at + 1][: 2 if kind == "two turns" else 1]
        for number in numbers:
            tell(f"turn_{number}", MessageAccepted(f"msg_{number}", "hi"))
        for number in numbers:
            run(number)
    return events


@given(steps=STEPS, age=st.integers(0, 60))
def test_the_rest_of_a_history_is_a_history(steps: list[tuple[str, int]], age: int) -> None:
    events = history(steps)
    before = START + timedelta(seconds=age)
    cut = cut_of(events, before)
    whole = SessionState("sess_1")
    for event in events:
        whole.apply(event)
    if cut is None:
        return
    gone, rest = events[: cut.seq], events[cut.seq :]
    assert all(event.created_at < before for event in gone)
    assert {e.turn_id for e in gone if e.turn_id} & {e.turn_id for e in rest} == set(), "a turn was cut in two"
    assert cut.summary.turns == sum(isinstance(e.body, TERMINAL) for e in gone)
    # As much as can go goes: at the next place where no turn is open there is something younger.
    left = SessionState("sess_1")
    left.apply(Event(cut.seq, "sess_1", None, cut.summary.last_at, cut.summary))
    for event in rest:
        left.apply(event)
        assert left.turns or event.created_at >= before or event.seq == cut.seq
    assert (left.last_seq, left.spent, left.title, left.created) == (
        *(whole.last_seq, whole.spent, whole.title, whole.created),
    )
    assert whole.transcript[len(whole.transcript) - len(left.transcript) :] == left.transcript


def test_a_session_of_one_event_has_nothing_to_cut() -> None:
    assert cut_of(history([]), START + timedelta(days=1)) is None
