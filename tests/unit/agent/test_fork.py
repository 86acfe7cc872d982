"""Forks: the past of a session up to any of its events, as the whole past of another one."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from actors.agent.orders import Pause, Resolve, Resume, Withdraw
from actors.agent.sessions import NewSession
from actors.agent.tables import APPROVALS, EVENTS, SESSIONS, TURNS
from actors.core.errors import CursorExpired, SessionExists, SessionNotFound, StoreUnavailable
from actors.core.events import (
    TERMINAL,
    ApprovalRequested,
    Event,
    MessageAccepted,
    MessageCompleted,
    Origin,
    SessionCreated,
    Spent,
    UsageUpdated,
)
from actors.core.messages import AssistantMessage, UserMessage
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says

TWO = calls(("run_shell", {"command": "1"}), ("run_shell", {"command": "2"}), text="Let me see.")


@pytest.fixture
async def told(world: Any, until: Callable[..., Any]) -> list[Event]:
    """A session in which everything happened: queues, steering, approvals, a pause, a cancel, and much at once."""
    gate = asyncio.Event()
    llm = ScriptedLLM(
        [says("one"), TWO, [gate, *says("two")], [TextDelta("Well, "), asyncio.Event()], TWO], otherwise=says("yes")
    )
    host = world.host(llm)
    new = NewSession("scripted", "Be brief.", {"a": 1}, approvals=("run_shell",))
    await host.chat(world.submit("first", new=new, fingerprint="f"), wait_s=5)
    asking = world.submit("second")
    await host.submit(asking)
    await until(lambda: not host.status().running)
    for decision, approval in zip(("approve", "deny"), await world.bodies(ApprovalRequested), strict=True):
        order = Resolve(approval.approval_id, decision, None, "user_1")
        await host.control("sess_1", "user_1", order)
    await until(lambda: llm.open == 1)
    steer, queued, withdrawn = (
        world.submit(text, on_busy=on)
        for text, on in (("steer", "steer"), ("third", "enqueue"), ("withdrawn", "enqueue"))
    )
    for command in (steer, queued, withdrawn):
        await host.submit(command)
    await host.control("sess_1", "user_1", Withdraw(withdrawn.message_id))
    await host.control("sess_1", "user_1", Pause())
    gate.set()
    await host.chat(asking, wait_s=5)
    await host.control("sess_1", "user_1", Resume())
    await until(lambda: len(llm.requests) == 4 and llm.open == 1)
    await host.cancel("sess_1", "user_1", steer.turn_id)
    await until(lambda: not host.status().running)
    return await world.events()


async def fork(world: Any, copy: str, from_seq: int, **more: Any) -> Any:
    source = await world.book.get("sess_1", "user_1")
    return await world.book.fork(source, copy, from_seq=from_seq, new_id=world.new_id, **more)


def ids(events: list[Event]) -> set[str]:
    """Of turns and approvals."""
    return {e.turn_id for e in events if e.turn_id} | {
        e.body.approval_id for e in events if isinstance(e.body, ApprovalRequested)
    }


async def test_at_every_event_it_is_a_session_that_can_go_on(
    world: Any, told: list[Event], check_openai: Callable[..., None], check_anthropic: Callable[..., None]
) -> None:
    kinds = {event.body.type for event in told}
    assert kinds >= {"approval.resolved", "session.paused", "turn.cancelled", "turn.waiting", "turn.resumed"}
    host = world.host(ScriptedLLM(otherwise=says("and on")), approval_expires_s=1)
    for seq in range(1, len(told) + 1):
        copy = f"copy_{seq}"
        row, new = await fork(world, copy, seq)
        assert (new, row.status, row.spent, row.fingerprint) == (True, "idle", Spent(), None)
        events = await world.events(copy)
        assert [e.seq for e in events] == list(range(1, row.last_seq + 1))
        state = await world.state(copy)
        assert (state.turns, state.created.forked_from) == ({}, Origin("sess_1", seq))
        assert (state.user_id, state.system, state.metadata, state.approvals) == (
            *("user_1", "Be brief.", {"a": 1}, ("run_shell",)),
        )
        for check in (check_openai, check_anthropic):
            check(state.transcript)
        assert not ids(events) & ids(told)
        assert await world.attempts(copy) == ()
        assert (await host.chat(world.submit("more", copy, new=None), wait_s=5)).message == "and on"
    assert await world.events() == told, "the session that was forked was touched"
    # The turn that waits for a person waits in the session that was forked, and in no copy.
    assert await world.journal.unfinished(limit=100) == ()
    assert await world.journal.due(world.clock.now() + timedelta(days=2), limit=100) == ("sess_1",)


async def test_it_knows_what_was_said(world: Any, told: list[Event]) -> None:
    ends = [e.seq for e in told if isinstance(e.body, TERMINAL)]
    await fork(world, "early", ends[0])
    assert (await world.state("early")).transcript == [
        UserMessage("first"),
        AssistantMessage("one", model="scripted"),
    ]
    await fork(world, "late", ends[-1])
    assert (await world.state("late")).transcript == (await _state_at(world, ends[-1])).transcript


async def _state_at(world: Any, seq: int) -> Any:
    from actors.agent.state import SessionState

    state = SessionState("sess_1")
    for event in (await world.events())[:seq]:
        state.apply(event)
    return state


async def test_cut_between_an_answer_and_its_requests_every_call_has_a_result(
    world: Any, told: list[Event], check_openai: Callable[..., None]
) -> None:
    answers = [e for e in told if isinstance(e.body, MessageCompleted) and e.body.tool_calls]
    for answer in answers:
        await fork(world, f"copy_{answer.seq}", answer.seq)
        transcript = (await world.state(f"copy_{answer.seq}")).transcript
        check_openai(transcript)
        assert [type(message).__name__ for message in transcript[-3:]] == [
            *("AssistantMessage", "ToolMessage", "ToolMessage")
        ]


async def test_what_it_costs_begins_anew(world: Any, told: list[Event]) -> None:
    await fork(world, "copy", len(told))
    assert not [e for e in await world.events("copy") if isinstance(e.body, UsageUpdated)]
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    await host.chat(world.submit("more", "copy"), wait_s=5)
    assert (await world.book.get("copy", "user_1")).spent.cost_micros == 10


async def test_a_repeat_of_a_request_to_the_old_session_is_none_of_the_new_one(world: Any, told: list[Event]) -> None:
    await fork(world, "copy", len(told))
    assert {e.body.fingerprint for e in await world.events("copy") if isinstance(e.body, MessageAccepted)} == {None}
    turns = await world.database.read(lambda c: c.execute(TURNS.select().where(TURNS.c.session_id == "copy")).all())
    assert {turn.fingerprint for turn in turns} == {None}


async def test_the_rows_are_those_of_the_copy(world: Any, told: list[Event]) -> None:
    await fork(world, "copy", len(told))
    events = await world.events("copy")
    rows = await world.database.read(lambda c: c.execute(TURNS.select().where(TURNS.c.session_id == "copy")).all())
    accepted = {e.turn_id: e.seq for e in events if isinstance(e.body, MessageAccepted)}
    assert {row.id: row.accepted_seq for row in rows} == accepted
    assert all(row.finished_at is not None for row in rows)
    statuses = sorted(row.status for row in await world.approvals("copy"))
    assert statuses == ["approved", "cancelled", "cancelled", "denied"]
    assert sorted(row.status for row in await world.approvals()) == ["approved", "denied", "pending", "pending"]


async def test_done_again_it_is_found(world: Any, told: list[Event]) -> None:
    row, _ = await fork(world, "copy", 6, fingerprint="f")
    assert row.fingerprint == "f"
    assert await fork(world, "copy", 6, fingerprint="f") == (row, False)
    assert len(await world.events("copy")) == row.last_seq


async def test_an_id_of_somebody_else_is_not_taken(world: Any, told: list[Event]) -> None:
    await world.book.open("theirs", "user_2", SessionCreated("user_2", "scripted"))
    with pytest.raises(SessionExists):
        await fork(world, "theirs", 6)
    assert len(await world.events("theirs")) == 1


@pytest.mark.parametrize("statement", ["INSERT INTO turns", "INSERT INTO approvals", "INSERT INTO events"])
async def test_it_is_there_whole_or_not_at_all(world: Any, told: list[Event], statement: str) -> None:
    from sqlalchemy.event import listen, remove
    from sqlalchemy.exc import OperationalError

    def fail(_c: Any, _u: Any, text: str, *_: Any) -> None:
        if text.startswith(statement):
            raise OperationalError(text, {}, Exception("the disk is full"))

    listen(world.database.engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(StoreUnavailable):
            await fork(world, "copy", len(told))
    finally:
        remove(world.database.engine, "before_cursor_execute", fail)
    for table, column in ((SESSIONS, "id"), (EVENTS, "session_id"), (TURNS, "session_id"), (APPROVALS, "session_id")):
        query = table.select().where(table.c[column] == "copy")
        assert (await world.database.read(lambda c, query=query: c.execute(query).all())) == []
    assert (await fork(world, "copy", len(told)))[1]


async def test_of_a_session_that_was_trimmed(world: Any, until: Callable[..., Any]) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    await host.chat(world.submit("old"), wait_s=5)
    world.clock.advance(1000)
    await host.chat(world.submit("new"), wait_s=5)
    await world.journal.trim(world.clock.now() - timedelta(seconds=500), limit=10)
    oldest, last = (await world.book.get("sess_1", "user_1")).oldest_seq, (await world.state()).last_seq
    for seq in (0, 1, oldest - 1):
        with pytest.raises(CursorExpired) as caught:
            await fork(world, "copy", seq)
        assert caught.value.details["oldest_seq"] == oldest
    await fork(world, "empty", oldest)
    assert (await world.state("empty")).transcript == []
    await fork(world, "copy", last)
    assert [m.content for m in (await world.state("copy")).transcript] == ["new", "yes"]
    assert (await world.book.get("copy", "user_1")).title == "old"


async def test_a_trim_that_comes_in_between_is_told(world: Any) -> None:
    """The row that was read says that the event is there; it is not any more."""
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    await host.chat(world.submit("old"), wait_s=5)
    source = await world.book.get("sess_1", "user_1")
    world.clock.advance(1000)
    await world.journal.trim(world.clock.now(), limit=10)
    with pytest.raises(CursorExpired):
        await world.book.fork(source, "copy", from_seq=3, new_id=world.new_id)


async def test_of_a_session_that_was_deleted(world: Any, told: list[Event]) -> None:
    source = await world.book.get("sess_1", "user_1")
    await world.book.delete("sess_1", "user_1")
    with pytest.raises(SessionNotFound):
        await world.book.fork(source, "copy", from_seq=3, new_id=world.new_id)
