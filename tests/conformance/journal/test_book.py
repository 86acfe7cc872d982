"""The read side: pages that add up, and nothing of anybody else's."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.agent.book import SessionBook
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.core.errors import SessionExists, SessionNotFound, TurnNotFound
from actors.core.events import SessionCreated, Spent, TurnCompleted
from actors.ledger.book import AttemptOpened, attempts_of
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.testing import FakeClock


@pytest.fixture
def opened(process: Any) -> Callable[..., Any]:
    """Open a session through the book; the clock moves only when told to, so some are born in one moment."""

    async def opened(session_id: str, user_id: str = "user_1", *, later: float = 0) -> Any:
        process.clock.advance(later)
        row, new = await process.book.open(session_id, user_id, SessionCreated(user_id, "m", "sys", {"a": 1}))
        assert new
        return row

    return opened


async def pages(book: Any, limit: int, *, delete: Callable[[list[str]], Any] | None = None) -> list[str]:
    found: list[str] = []
    after: str | None = None
    for _ in range(20):
        rows, more = await book.page("user_1", limit=limit, after=after)
        assert len(rows) <= limit
        found += [row.id for row in rows]
        if not more:
            return found
        after = found[-1]
        if delete is not None:
            await delete(found)
    raise AssertionError(f"the pages do not end: {found}")


async def test_opening_twice_finds_it(process: Any, opened: Callable[..., Any]) -> None:
    row = await opened("sess_1")
    again = await process.book.open("sess_1", "user_1", SessionCreated("user_1", "other"))
    assert again == (row, False)
    assert (row.model, row.system, row.metadata, row.title, row.last_seq) == ("m", "sys", {"a": 1}, None, 1)
    assert row.spent == Spent()
    with pytest.raises(SessionExists):
        await process.book.open("sess_1", "user_2", SessionCreated("user_2", "m"))


async def test_a_session_opened_by_the_book_can_be_activated_and_written(
    process: Any, opened: Callable[..., Any], writer: Callable[..., Any]
) -> None:
    await opened("sess_1")
    owner = await writer().take_over()
    assert (owner.seq, owner.user_id) == (1, "user_1")
    await owner.accept()
    assert (await process.book.get("sess_1", "user_1")).last_seq == 2


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    born=st.lists(st.sampled_from([0, 0, 1]), min_size=1, max_size=8),
    limit=st.integers(1, 4),
    doomed=st.sets(st.integers(0, 7)),
)
def test_pages_add_up_to_everything_even_while_sessions_are_deleted(
    server: Any, born: list[int], limit: int, doomed: set[int]
) -> None:
    asyncio.run(_pages_add_up(server.url, born, limit, doomed))


_ROUNDS = iter(range(1_000_000))


async def _pages_add_up(url: str, born: list[int], limit: int, doomed: set[int]) -> None:
    database = Database(url, pool=2, connect_s=5, statement_s=10)
    try:
        payloads, clock = Payloads(ClearText()), FakeClock()
        book = SessionBook(database, payloads, SqlJournal(database, payloads), clock)
        number = next(_ROUNDS)
        for row in (await book.page("user_1", limit=100, after=None))[0]:
            await book.delete(row.id, "user_1")
        made: list[str] = []
        for at, later in enumerate(born):
            clock.advance(later)
            made.append(f"r{number}_{at}")
            await book.open(made[-1], "user_1", SessionCreated("user_1", "m"))
            await book.open(f"{made[-1]}_other", "user_2", SessionCreated("user_2", "m"))
        everything = [row.id for row in (await book.page("user_1", limit=100, after=None))[0]]
        assert sorted(everything) == sorted(made)
        moments = [row.created_at for row in (await book.page("user_1", limit=100, after=None))[0]]
        assert moments == sorted(moments, reverse=True)
        assert await pages(book, limit) == everything

        gone: set[str] = set()

        async def delete(found: list[str]) -> None:
            """The cursor itself is deleted, and what was seen or not seen yet."""
            for session_id in {found[-1], *(made[at] for at in doomed if at < len(made))} - gone:
                await book.delete(session_id, "user_1")
                gone.add(session_id)

        found = await pages(book, limit, delete=delete)
        assert len(set(found)) == len(found)
        assert set(everything) - gone <= set(found)
        assert found == [session_id for session_id in everything if session_id in found]
    finally:
        database.close()


async def test_others_see_nothing(process: Any, opened: Callable[..., Any], writer: Callable[..., Any]) -> None:
    await opened("sess_1")
    await opened("sess_2", "user_2")
    turn = await (await writer().take_over()).whole_turn()
    book = process.book
    for call in (
        book.get("sess_1", "user_2"),
        book.delete("sess_1", "user_2"),
        book.page("user_2", limit=1, after="sess_1"),
        book.page("user_2", limit=1, after="nobody"),
    ):
        with pytest.raises(SessionNotFound):
            await call
    with pytest.raises(TurnNotFound):
        await book.turn(turn, "user_2")
    rows, more = await book.page("user_2", limit=10, after=None)
    assert ([row.id for row in rows], more) == (["sess_2"], False)


async def test_a_turn_is_shown_with_how_it_ended(
    process: Any, opened: Callable[..., Any], writer: Callable[..., Any]
) -> None:
    await opened("sess_1")
    owner = await writer().take_over()
    queued = await owner.accept()
    turn = await process.book.turn(queued, "user_1")
    assert (turn.status, turn.outcome, turn.finished_at, turn.session_id) == ("queued", None, None, "sess_1")
    ended = await process.book.turn(await owner.whole_turn(), "user_1")
    assert (ended.status, ended.outcome) == ("completed", TurnCompleted("end_turn", 1, Spent()))
    with pytest.raises(TurnNotFound):
        await process.book.turn("nobody", "user_1")


async def test_events_come_in_pages(process: Any, opened: Callable[..., Any], writer: Callable[..., Any]) -> None:
    await opened("sess_1")
    owner = await writer().take_over()
    for _ in range(4):
        await owner.accept()
    first, more = await process.book.events("sess_1", after=0, limit=3)
    rest, no_more = await process.book.events("sess_1", after=3, limit=3)
    assert ([e.seq for e in first], more, [e.seq for e in rest], no_more) == ([1, 2, 3], True, [4, 5], False)


async def test_deleted_a_session_is_gone_and_what_it_cost_is_not(
    process: Any, opened: Callable[..., Any], writer: Callable[..., Any]
) -> None:
    await opened("sess_1")
    owner = await writer().take_over()
    turn, body = owner.accepted()
    entry = AttemptOpened("att_1", turn, "sess_1", "user_1", "m", process.clock.now())
    await owner.append(body, turn=turn, attempts=(entry,))
    await process.book.delete("sess_1", "user_1")
    with pytest.raises(SessionNotFound):
        await process.book.get("sess_1", "user_1")
    with pytest.raises(SessionNotFound):
        await process.book.delete("sess_1", "user_1")
    with pytest.raises(TurnNotFound):
        await process.book.turn(turn, "user_1")
    with pytest.raises(SessionExists):  # an id is not given out twice
        await process.book.open("sess_1", "user_1", SessionCreated("user_1", "m"))
    assert [a.id for a in await process.database.read(lambda c: attempts_of(c, "sess_1"))] == ["att_1"]
