"""Group commit: load makes commits larger and not more; what one append does wrong is its own affair."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.core.errors import Fenced
from actors.core.events import MessageAccepted
from actors.ledger.book import AttemptClosed, AttemptOpened

SESSIONS = 200


@pytest.fixture
async def writers(writer: Callable[..., Any]) -> list[Any]:
    writers = [writer(f"sess_{n}") for n in range(SESSIONS)]
    async with asyncio.TaskGroup() as group:
        for one in writers:
            group.create_task(one.create())
    return writers


async def test_many_appends_are_few_transactions(
    process: Any, writers: list[Any], outcomes: Callable[..., Any]
) -> None:
    commits = process.count_commits()
    assert await outcomes(*(one.accept() for one in writers)) == [None] * SESSIONS
    assert len(commits) <= SESSIONS / 20
    for one in (writers[0], writers[-1]):
        assert len(await process.journal.read(one.session_id, after=0, limit=10)) == 2


async def test_a_fenced_one_among_them_hurts_nobody(
    process: Any, writers: list[Any], outcomes: Callable[..., Any]
) -> None:
    zombies = writers[::10]
    for zombie in zombies:
        await process.journal.activate(zombie.session_id)
    commits = process.count_commits()
    errors = await outcomes(*(one.accept() for one in writers))
    assert [type(error) for error in errors] == [Fenced if one in zombies else type(None) for one in writers]
    assert len(commits) <= SESSIONS / 20


def half_a_character(one: Any) -> Any:
    """Text that cannot be encoded."""
    return one.append(MessageAccepted("msg_x", "\ud83d"), turn="turn_x")


def the_id_of_another_turn(one: Any) -> Any:
    """A row that is there already."""
    return one.append(MessageAccepted("msg_x", "hi"), turn="turn_sess_199_1")


def a_message_twice(one: Any) -> Any:
    """A message id that the session had, as when it is sent again after many others."""
    return one.append(MessageAccepted("msg_1", "hi"), turn="turn_y")


@pytest.mark.parametrize("poison", [half_a_character, the_id_of_another_turn, a_message_twice])
async def test_one_that_cannot_be_written_hurts_nobody_else(
    process: Any, writers: list[Any], outcomes: Callable[..., Any], poison: Callable[..., Any]
) -> None:
    assert await outcomes(writers[0].accept(), writers[-1].accept()) == [None, None]
    errors = await outcomes(*(one.accept() for one in writers[1:100]), poison(writers[0]))
    assert isinstance(errors.pop(), Exception)
    assert errors == [None] * 99
    assert len(await process.journal.read("sess_0", after=0, limit=10)) == 2


async def test_a_value_too_long_for_its_column_hurts_nobody_else(
    process: Any, writers: list[Any], outcomes: Callable[..., Any]
) -> None:
    """Model servers choose names and reasons of any length; PostgreSQL minds, SQLite does not."""
    now = process.clock.now()
    entries = (
        AttemptOpened("att_1", "turn_x", "sess_0", "user_1", "m", now),
        AttemptClosed("att_1", "finished " * 20, now, model="m" * 500, provider="p" * 500, generation_id="g" * 500),
    )
    poison = writers[0].append(MessageAccepted("msg_x", "hi"), turn="turn_x", attempts=entries)
    errors = await outcomes(*(one.accept() for one in writers[1:100]), poison)
    assert errors[:-1] == [None] * 99
    assert errors[-1] is None, "the session cannot go on because of a name that somebody else chose"


async def test_a_cancelled_append_is_written_all_the_same(process: Any, writers: list[Any]) -> None:
    turn, body = writers[0].accepted()
    task = asyncio.create_task(writers[0].append(body, turn=turn))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await writers[1].accept()  # in a later commit, or in the same
    assert len(await process.journal.read("sess_0", after=0, limit=10)) == 2
