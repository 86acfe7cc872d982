"""P2: one writer. Whoever was overtaken writes nothing, wherever it stands and however many of it there are."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.tables import EVENTS, TURNS
from actors.core.errors import Fenced, SessionExists, SessionNotFound


async def test_an_activation_raises_the_epoch_and_tells_all(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    await one.accept()
    first, second = await process.journal.activate("sess_1"), await process.journal.activate("sess_1")
    assert (first.epoch, second.epoch) == (2, 3)
    assert first.events == second.events
    assert [event.seq for event in first.events] == [1, 2]


@pytest.mark.parametrize("position", range(6))
async def test_an_overtaken_writer_writes_nothing_at_any_position(
    process: Any, writer: Callable[..., Any], position: int
) -> None:
    zombie = await writer().create()
    for _ in range(2):
        await zombie.accept()
    owner = await zombie.take_over()
    await owner.accept()
    before = await process.journal.read("sess_1", after=0, limit=100)
    zombie.seq = position
    turn, body = zombie.accepted()
    with pytest.raises(Fenced if position else SessionExists):
        await zombie.append(body, turn=turn)
    assert await process.journal.read("sess_1", after=0, limit=100) == before
    await owner.accept()


async def test_the_first_of_two_owners_is_fenced_by_the_second(process: Any, writer: Callable[..., Any]) -> None:
    created = await writer().create()
    first = await created.take_over()
    second = await created.take_over()
    await second.accept()
    with pytest.raises(Fenced):
        await first.accept()
    first.seq = second.seq
    with pytest.raises(Fenced):
        await first.accept()


async def test_fifty_zombies_against_one_owner(
    open_process: Callable[..., Any], writer: Callable[..., Any], outcomes: Callable[..., Any]
) -> None:
    """From several processes at once: what is written is the owner's, all of it, and nothing else."""
    processes = [open_process() for _ in range(3)]
    created = await writer("sess_1", processes[0].journal).create()
    zombies = [await created.take_over(processes[n % 3].journal) for n in range(50)]
    owner = await created.take_over(processes[1].journal)
    owner.turns = 5000

    async def haunt(zombie: Any, at: int) -> None:
        zombie.turns = 10_000 + 100 * at
        for _ in range(4):
            zombie.seq = owner.seq  # as near as a zombie can get
            with pytest.raises(Fenced):
                await zombie.accept()

    async def own() -> None:
        for _ in range(20):
            await owner.accept()

    errors = await outcomes(own(), *(haunt(zombie, at) for at, zombie in enumerate(zombies)))
    assert errors == [None] * 51
    events = await processes[2].journal.read("sess_1", after=0, limit=100)
    assert [event.seq for event in events] == list(range(1, 22))
    assert all(event.turn_id is None or int(event.turn_id.split("_")[-1]) < 6000 for event in events)


async def test_activations_at_once_have_one_winner(
    open_process: Callable[..., Any], writer: Callable[..., Any], outcomes: Callable[..., Any]
) -> None:
    processes = [open_process() for _ in range(3)]
    created = await writer("sess_1", processes[0].journal).create()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(created.take_over(processes[n % 3].journal)) for n in range(12)]
    owners = [task.result() for task in tasks]
    assert sorted(owner.epoch for owner in owners) == list(range(2, 14))
    for at, owner in enumerate(owners):
        owner.turns = 100 * at
    errors = await outcomes(*(owner.accept() for owner in owners))
    won = [owner.epoch for owner, error in zip(owners, errors, strict=True) if error is None]
    assert won == [13]


async def test_deleting_a_session_fences_its_writer(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    await one.accept()
    await process.book.delete("sess_1", "user_1")
    with pytest.raises(Fenced):
        await one.accept()
    with pytest.raises(SessionNotFound):
        await process.journal.activate("sess_1")
    with pytest.raises(SessionNotFound):
        await process.journal.read("sess_1", after=0, limit=1)
    assert await process.journal.unfinished(limit=10) == ()


async def test_deleting_amid_writing_leaves_nothing_behind(
    open_process: Callable[..., Any], writer: Callable[..., Any], outcomes: Callable[..., Any]
) -> None:
    writing, deleting = open_process(), open_process()
    one = await writer("sess_1", writing.journal).create()

    written = asyncio.Event()

    async def write() -> None:
        while True:
            await one.whole_turn()
            written.set()

    async def delete() -> None:
        await written.wait()
        await deleting.book.delete("sess_1", "user_1")

    fenced, deleted = await outcomes(write(), delete())
    assert (type(fenced), deleted) == (Fenced, None)
    for table in (EVENTS, TURNS):
        rows = await deleting.database.read(
            lambda c, t=table: c.execute(sa.select(sa.func.count()).select_from(t)).scalar()
        )
        assert rows == 0


async def test_overtaken_names_what_another_took_over_or_deleted(process: Any, writer: Callable[..., Any]) -> None:
    for name in ("mine", "taken", "deleted"):
        await writer(name).create()
    await process.journal.activate("taken")
    await process.book.delete("deleted", "user_1")
    many = {f"nobody_{n}": 1 for n in range(1200)}

    held = {"mine": 1, "taken": 1, "deleted": 1}
    assert await process.journal.overtaken(held) == ("taken", "deleted")
    assert await process.journal.overtaken({"taken": 2}) == ()
    assert len(await process.journal.overtaken({**many, "mine": 1})) == 1200
