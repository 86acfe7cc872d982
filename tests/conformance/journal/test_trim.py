"""Trims: whole turns go, one event stays for them, and whoever writes or reads beside it is told."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.tables import APPROVALS, EVENTS, SESSIONS, TURNS
from actors.core.errors import CursorExpired, Fenced
from actors.core.events import (
    ApprovalExpired,
    ApprovalRequested,
    HistoryTrimmed,
    MessageCompleted,
    SessionPaused,
    Spent,
    ToolRequested,
    TurnCompleted,
    TurnStarted,
)
from actors.core.messages import ToolCall

# The writers' events are a microsecond apart, from this moment on.
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(seq: int) -> datetime:
    """A moment just after that event."""
    return NOW + timedelta(microseconds=seq)


async def turns(one: Any, count: int) -> Any:
    for _ in range(count):
        await one.whole_turn()
    return one


async def read(process: Any, start: int, limit: int = 100) -> list[int]:
    return [event.seq for event in await process.journal.read("sess_1", after=start, limit=limit)]


async def test_whole_turns_go_and_one_event_stays_for_them(process: Any, writer: Callable[..., Any]) -> None:
    await turns(await writer().create(), 3)
    # Turns are events 2 to 4, 5 to 7 and 8 to 10; the second one is not over before the moment.
    before = await process.journal.read("sess_1", after=0, limit=100)
    assert await process.journal.trim(after(6), limit=10) == 1
    left = await process.journal.read("sess_1", after=0, limit=100)
    assert [event.seq for event in left] == [4, 5, 6, 7, 8, 9, 10]
    assert left[1:] == before[4:]
    body = left[0].body
    assert isinstance(body, HistoryTrimmed)
    assert (body.turns, body.messages, body.first_at, body.last_at) == (
        1,
        1,
        before[0].created_at,
        before[3].created_at,
    )
    row = await process.book.get("sess_1", "user_1")
    assert (row.oldest_seq, row.last_seq, row.status) == (4, 10, "idle")
    assert (await process.journal.activate("sess_1")).events == left


async def test_cursors(process: Any, writer: Callable[..., Any]) -> None:
    await turns(await writer().create(), 3)
    await process.journal.trim(after(6), limit=10)
    assert await read(process, 0) == [4, 5, 6, 7, 8, 9, 10]
    assert await read(process, 0, 2) == [4, 5]
    for cursor in (1, 2, 3):
        with pytest.raises(CursorExpired) as caught:
            await read(process, cursor)
        assert caught.value.details == {"session_id": "sess_1", "oldest_seq": 4}
    assert [await read(process, cursor) for cursor in (4, 9, 10, 11)] == [[5, 6, 7, 8, 9, 10], [10], [], []]
    page, more = await process.book.events("sess_1", after=0, limit=3)
    assert ([event.seq for event in page], more) == ([4, 5, 6], True)


async def test_all_of_it(process: Any, writer: Callable[..., Any]) -> None:
    one = await turns(await writer().create(), 2)
    assert await process.journal.trim(after(100), limit=10) == 1
    assert await read(process, 0) == [7]
    for cursor, left in ((7, []), (8, [])):
        assert await read(process, cursor) == left
    with pytest.raises(CursorExpired):
        await read(process, 6)
    assert await process.journal.trim(after(100), limit=10) == 0
    await (await one.take_over()).whole_turn()
    assert await read(process, 0) == [7, 8, 9, 10]


async def test_again_and_again(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    for round_ in range(1, 4):
        await turns(one, 2)
        assert await process.journal.trim(after(one.seq - 3), limit=10) == 1
        one = await one.take_over()
        first = (await process.journal.read("sess_1", after=0, limit=1))[0]
        assert (first.body.turns, first.body.first_at) == (2 * round_ - 1, NOW)
    assert len(await read(process, 0)) == 4


async def test_the_writer_is_fenced(process: Any, writer: Callable[..., Any]) -> None:
    """Its copy of the past is one that is not there any more."""
    one = await turns(await writer().create(), 2)
    await process.journal.trim(after(5), limit=10)
    with pytest.raises(Fenced):
        await one.accept()
    owner = await one.take_over()
    assert owner.epoch == 3
    await owner.accept()
    assert (await read(process, 0))[-1] == 8


@pytest.mark.parametrize("status", ["running", "waiting", "paused"])
async def test_not_where_something_is_to_come(process: Any, writer: Callable[..., Any], status: str) -> None:
    one = await turns(await writer().create(), 2)
    if status == "paused":
        await one.append(SessionPaused(), status="paused")
    else:
        turn, body = one.accepted()
        await one.append(body, TurnStarted(body.message_id, "m"), turn=turn, status=status)
    assert await process.journal.trim(after(100), limit=10) == 0
    assert (await read(process, 0))[0] == 1


async def test_a_turn_that_began_before_the_moment_and_ended_after_it_is_kept(
    process: Any, writer: Callable[..., Any]
) -> None:
    one = await writer().create()
    first, body = one.accepted()
    second, queued = one.accepted()
    await one.append(body, TurnStarted(body.message_id, "m"), turn=first)
    await one.append(queued, turn=second)  # accepted while the first one runs
    await one.append(TurnCompleted("end_turn", 1, Spent()), turn=first)
    await one.append(TurnStarted(queued.message_id, "m"), TurnCompleted("end_turn", 1, Spent()), turn=second)
    # There is no place between the two at which nothing was open.
    assert await process.journal.trim(after(6), limit=10) == 0
    assert await read(process, 0) == [1, 2, 3, 4, 5, 6, 7]
    assert await process.journal.trim(after(7), limit=10) == 1
    assert await read(process, 0) == [7]


async def test_turns_and_approvals_go_with_them_and_what_they_cost_does_not(
    process: Any, writer: Callable[..., Any]
) -> None:
    one = await writer().create()
    made = []
    for number in range(2):
        turn, body = one.accepted()
        made.append(turn)
        call = ToolCall(f"id_{number}", "run_shell", "{}")
        await one.append(
            body,
            TurnStarted(body.message_id, "m"),
            MessageCompleted(f"ans_{number}", "", "m", "tool_calls", (call,)),
            ToolRequested(call),
            ApprovalRequested(f"appr_{number}", call.id, "run_shell", "{}", NOW, "deny"),
            ApprovalExpired(f"appr_{number}", call.id, "deny"),
            TurnCompleted("end_turn", 1, Spent()),
            turn=turn,
        )
    await process.journal.trim(after(8), limit=10)

    def left(connection: sa.Connection) -> tuple[list[Any], list[Any]]:
        return (
            list(connection.execute(sa.select(TURNS.c.id)).scalars()),
            list(connection.execute(sa.select(APPROVALS.c.id)).scalars()),
        )

    assert await process.database.read(left) == (made[1:], ["appr_1"])
    assert (await process.book.turn(made[1], "user_1")).accepted_seq == 9


async def test_beside_a_writer_that_goes_on(
    open_process: Callable[..., Any], writer: Callable[..., Any], outcomes: Callable[..., Any]
) -> None:
    """Two processes trim, one writes, one reads: nobody loses a number, and no reader is told of a gap."""
    writing, trimming, reading = open_process(), [open_process(), open_process()], open_process()
    one = await writer("sess_1", writing.journal).create()
    done = asyncio.Event()

    async def write() -> None:
        nonlocal one
        for _ in range(40):
            try:
                await one.whole_turn()
            except Fenced:
                one = await one.take_over(writing.journal)
        done.set()

    async def trim(process: Any) -> None:
        while not done.is_set():
            await process.journal.trim(after(one.seq), limit=10)
            await asyncio.sleep(0.002)

    told: list[tuple[int, int]] = []

    async def follow() -> None:
        cursor = 0
        while not done.is_set() or cursor < one.seq:
            try:
                events = await reading.journal.read("sess_1", after=cursor, limit=7)
            except CursorExpired as error:
                told.append((cursor, error.details["oldest_seq"]))
                cursor = 0
                continue
            for event in events:
                assert event.seq == cursor + 1 or isinstance(event.body, HistoryTrimmed)
                assert cursor == 0 or event.seq == cursor + 1, f"{event.seq} was told after {cursor}"
                cursor = event.seq
            await asyncio.sleep(0.001)

    assert await outcomes(write(), trim(trimming[0]), trim(trimming[1]), follow()) == [None] * 4
    assert all(cursor < oldest for cursor, oldest in told)
    events = await reading.journal.read("sess_1", after=0, limit=1000)
    assert [event.seq for event in events] == list(range(events[0].seq, one.seq + 1))
    row = await reading.database.read(lambda c: c.execute(sa.select(SESSIONS)).one())
    assert (row.oldest_seq, row.last_seq) == (events[0].seq, one.seq)
    orphans = sa.select(sa.func.count()).select_from(EVENTS).where(EVENTS.c.seq < events[0].seq)
    assert await reading.database.read(lambda c: c.execute(orphans).scalar()) == 0


async def test_a_trim_between_the_two_looks_of_a_reader(
    process: Any, open_process: Callable[..., Any], writer: Callable[..., Any]
) -> None:
    """PostgreSQL shows each statement what is there at that moment: the gap must be told all the same."""
    await turns(await writer().create(), 3)
    other, loop, events = open_process(), asyncio.get_running_loop(), process.journal._events

    def late(*arguments: Any, **members: Any) -> Any:
        asyncio.run_coroutine_threadsafe(other.journal.trim(after(6), limit=10), loop).result(10)
        return events(*arguments, **members)

    process.journal._events = late
    if process.database.is_sqlite:  # a transaction sees one moment
        assert await read(process, 2) == [3, 4, 5, 6, 7, 8, 9, 10]
        return
    with pytest.raises(CursorExpired) as caught:
        await read(process, 2)
    assert caught.value.details["oldest_seq"] == 4


async def test_so_many_sessions_and_the_oldest_first(process: Any, writer: Callable[..., Any]) -> None:
    for number in range(3):
        one = writer(f"sess_{number}")
        one.seq = 0
        await turns(await one.create(), 1)
        process.clock.advance(1)
    done = [await process.journal.trim(after(100), limit=2), await process.journal.trim(after(100), limit=2)]
    assert (done, await process.journal.trim(after(100), limit=2)) == ([2, 1], 0)
