"""What waits for people: the rows of approvals, and which sessions are left alone and which are not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.approval_book import ApprovalBook
from actors.agent.tables import APPROVALS
from actors.core.errors import ApprovalNotFound
from actors.core.events import (
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    SessionPaused,
    SessionResumed,
    Spent,
    TurnCompleted,
    TurnRecovering,
    TurnResumed,
    TurnStarted,
    TurnWaiting,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def asks(name: str, *, expires_s: float = 100.0) -> ApprovalRequested:
    return ApprovalRequested(
        f"appr_{name}", f"id_{name}", "run_shell", "{}", NOW + timedelta(seconds=expires_s), "deny"
    )


@pytest.fixture
def approvals(process: Any) -> ApprovalBook:
    return ApprovalBook(process.database, process.payloads)


@pytest.fixture
def waiting(writer: Callable[..., Any]) -> Callable[..., Any]:
    """A session whose turn waits for a person."""

    async def waiting(session_id: str = "sess_1", user_id: str = "user_1", *, expires_s: float = 100.0) -> Any:
        one = await writer(session_id, user_id=user_id).create()
        one.turn, body = one.accepted()
        request = asks(session_id, expires_s=expires_s)
        bodies = (body, TurnStarted(body.message_id, "m"), request, TurnWaiting("approval"))
        await one.append(*bodies, turn=one.turn, status="waiting")
        return one

    return waiting


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (ApprovalResolved("appr_sess_1", "id_sess_1", "approve", "yes", "user_1"), "approved"),
        (ApprovalResolved("appr_sess_1", "id_sess_1", "deny", None, "user_1"), "denied"),
        (ApprovalExpired("appr_sess_1", "id_sess_1", "approve"), "expired"),
        (ApprovalExpired("appr_sess_1", "id_sess_1", "deny", cancelled=True), "cancelled"),
    ],
)
async def test_a_row_from_the_question_to_its_end(
    process: Any, approvals: ApprovalBook, waiting: Callable[..., Any], body: Any, status: str
) -> None:
    one = await waiting()
    asked = await approvals.get("appr_sess_1", "user_1")
    assert (asked.status, asked.session_id, asked.turn_id, asked.request) == (
        *("pending", "sess_1", one.turn, asks("sess_1")),
    )
    assert (asked.resolution, asked.resolved_at) == (None, None)
    await one.append(body, turn=one.turn)
    ended = await approvals.get("appr_sess_1", "user_1")
    assert (ended.status, ended.resolution, ended.resolved_at) == (status, body, NOW + timedelta(microseconds=5))
    assert await process.journal.due(NOW + timedelta(days=1), limit=10) == ()


async def test_pages_of_them(process: Any, approvals: ApprovalBook, waiting: Callable[..., Any]) -> None:
    sessions = [await waiting(f"sess_{number}") for number in range(4)]
    await waiting("other", "user_2")
    await sessions[1].append(ApprovalExpired("appr_sess_1", "id", "deny"), turn=sessions[1].turn)

    async def page(**members: Any) -> tuple[list[str], bool]:
        rows, more = await approvals.page("user_1", **{"limit": 10, "after": None, **members})
        return [row.id.removeprefix("appr_sess_") for row in rows], more

    # All were asked for in one moment: the id decides.
    assert await page() == (["3", "2", "1", "0"], False)
    assert await page(limit=2) == (["3", "2"], True)
    assert await page(limit=2, after="appr_sess_2") == (["1", "0"], False)
    assert await page(status="pending") == (["3", "2", "0"], False)
    assert await page(status="expired", session_id="sess_1") == (["1"], False)
    assert await page(session_id="sess_2") == (["2"], False)
    for strange in ("appr_other", "nobody"):
        with pytest.raises(ApprovalNotFound):
            await page(after=strange)
        with pytest.raises(ApprovalNotFound):
            await approvals.get(strange, "user_1")


async def test_due_are_those_whose_time_is_over_the_oldest_first(process: Any, waiting: Callable[..., Any]) -> None:
    for name, expires_s in (("later", 30.0), ("soon", 10.0), ("much later", 1000.0)):
        await waiting(name, expires_s=expires_s)
    found = {
        seconds: await process.journal.due(NOW + timedelta(seconds=seconds), limit=10) for seconds in (9, 10, 30, 60)
    }
    assert found == {9: (), 10: ("soon",), 30: ("soon", "later"), 60: ("soon", "later")}
    assert await process.journal.due(NOW + timedelta(seconds=60), limit=1) == ("soon",)


async def test_due_is_a_session_once_however_many_are_asked_there(process: Any, waiting: Callable[..., Any]) -> None:
    one = await waiting()
    await one.append(asks("another", expires_s=1), turn=one.turn, status="waiting")
    assert await process.journal.due(NOW + timedelta(days=1), limit=10) == ("sess_1",)


async def test_what_waits_for_people_is_not_unfinished(
    process: Any, writer: Callable[..., Any], waiting: Callable[..., Any]
) -> None:
    one = await waiting("asked")
    other = await writer("paused").create()
    await other.accept()
    await other.append(SessionPaused(), status="paused")
    assert await process.journal.unfinished(limit=10) == ()
    await one.append(ApprovalResolved("appr_asked", "id", "approve", None, "user_1"), turn=one.turn, status="running")
    await other.append(SessionResumed(), status="running")
    assert set(await process.journal.unfinished(limit=10)) == {"asked", "paused"}


async def test_a_turns_row_says_whether_it_runs_or_waits(process: Any, waiting: Callable[..., Any]) -> None:
    one = await waiting()
    statuses = [(await process.book.turn(one.turn, "user_1")).status]
    for body in (TurnResumed(), TurnWaiting("paused"), TurnResumed(), TurnRecovering(1)):
        await one.append(body, turn=one.turn)
        statuses.append((await process.book.turn(one.turn, "user_1")).status)
    assert statuses == ["waiting", "running", "waiting", "running", "running"]
    begun = await process.book.begun_turn("sess_1")
    assert begun is not None
    assert (begun.id, begun.accepted_seq) == (one.turn, 2)
    await one.append(TurnCompleted("end_turn", 1, Spent()), turn=one.turn)
    assert await process.book.begun_turn("sess_1") is None


async def test_deleted_with_their_session(process: Any, waiting: Callable[..., Any]) -> None:
    await waiting("sess_1")
    await waiting("sess_2")
    await process.book.delete("sess_1", "user_1")
    left = await process.database.read(lambda c: c.execute(sa.select(APPROVALS.c.id)).scalars().all())
    assert left == ["appr_sess_2"]
    assert await process.journal.due(NOW + timedelta(days=1), limit=10) == ("sess_2",)
