"""A fork is one commit: the whole past of the new session, with its rows, or nothing of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.tables import APPROVALS, EVENTS, SESSIONS, TURNS
from actors.core.errors import SessionExists
from actors.core.events import (
    ApprovalRequested,
    MessageCompleted,
    Origin,
    SessionCreated,
    ToolRequested,
    TurnStarted,
    TurnWaiting,
)
from actors.core.messages import ToolCall
from actors.testing import sequential_ids

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = {SESSIONS: SESSIONS.c.id} | {table: table.c.session_id for table in (EVENTS, TURNS, APPROVALS)}


@pytest.fixture
async def source(process: Any, writer: Callable[..., Any]) -> Any:
    """A session of two turns, the second of which waits for a person."""
    one = await writer().create()
    await one.whole_turn()
    turn, body = one.accepted()
    call = ToolCall("id_1", "run_shell", "{}")
    await one.append(
        body,
        TurnStarted(body.message_id, "m"),
        MessageCompleted("ans_1", "", "m", "tool_calls", (call,)),
        ToolRequested(call),
        ApprovalRequested("appr_0", "id_1", "run_shell", "{}", NOW, "deny"),
        TurnWaiting("approval"),
        turn=turn,
        status="waiting",
    )
    return await process.book.get("sess_1", "user_1")


async def rows(process: Any, session_id: str) -> dict[str, int]:
    def count(connection: sa.Connection) -> dict[str, int]:
        query = sa.select(sa.func.count())
        return {
            table.name: connection.execute(query.select_from(table).where(column == session_id)).scalar_one()
            for table, column in TABLES.items()
        }

    return await process.database.read(count)


async def test_it_is_one_commit(process: Any, source: Any) -> None:
    commits = process.count_commits()
    row, new = await process.book.fork(source, "copy", from_seq=source.last_seq, new_id=sequential_ids())
    assert (len(commits), new) == (1, True)
    assert await rows(process, "copy") == {"sessions": 1, "events": row.last_seq, "turns": 2, "approvals": 1}
    assert await rows(process, "sess_1") == {"sessions": 1, "events": 10, "turns": 2, "approvals": 1}
    events = await process.journal.read("copy", after=0, limit=100)
    assert [event.seq for event in events] == list(range(1, 14))
    # What had not ended ends in the copy, and there alone.
    assert [event.body.type for event in events][-3:] == ["approval.expired", "tool.completed", "turn.cancelled"]
    assert events[0].body == SessionCreated("user_1", "some-model", forked_from=Origin("sess_1", 10))
    assert (row.status, source.status) == ("idle", "waiting")


async def test_what_fails_in_it_leaves_nothing(process: Any, source: Any) -> None:
    """An id that is there already, as the last of all that is written."""
    taken = sequential_ids()
    with pytest.raises(Exception, match=r"appr_0|approvals"):
        await process.book.fork(
            source, "copy", from_seq=10, new_id=lambda kind: "appr_0" if kind == "appr" else taken(kind)
        )
    assert set((await rows(process, "copy")).values()) == {0}
    assert (await process.book.fork(source, "copy", from_seq=10, new_id=sequential_ids()))[1]


async def test_made_by_several_at_once_it_is_made_once(
    process: Any, open_process: Callable[..., Any], source: Any, outcomes: Callable[..., Any]
) -> None:
    processes = [open_process() for _ in range(4)]
    made: list[bool] = []

    async def fork(one: Any, number: int) -> None:
        ids = sequential_ids()
        _, new = await one.book.fork(source, "copy", from_seq=4, new_id=lambda kind: f"{ids(kind)}_{number}")
        made.append(new)

    assert await outcomes(*(fork(one, number) for number, one in enumerate(processes))) == [None] * 4
    assert sorted(made) == [False, False, False, True]
    assert await rows(process, "copy") == {"sessions": 1, "events": 4, "turns": 1, "approvals": 0}


async def test_the_copy_has_a_writer_of_its_own(process: Any, source: Any, writer: Callable[..., Any]) -> None:
    await process.book.fork(source, "copy", from_seq=4, new_id=sequential_ids())
    owner = await writer("copy").take_over()
    await owner.whole_turn()
    assert (owner.epoch, (await process.book.get("copy", "user_1")).last_seq) == (2, 7)
    assert (await process.book.get("sess_1", "user_1")).last_seq == 10


async def test_a_deleted_id_is_not_given_out_again(process: Any, source: Any) -> None:
    await process.book.fork(source, "copy", from_seq=4, new_id=sequential_ids())
    await process.book.delete("copy", "user_1")
    with pytest.raises(SessionExists):
        await process.book.fork(source, "copy", from_seq=4, new_id=sequential_ids())
