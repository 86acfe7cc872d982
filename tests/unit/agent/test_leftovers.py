"""Workspaces of deleted sessions that the object store still has, because it was away when they were deleted."""

from datetime import timedelta
from typing import Any

import pytest

from actors.agent.leftovers import AFTER, AT_ONCE, Leftovers
from actors.core.errors import StoreUnavailable
from actors.core.events import SessionCreated
from actors.security.cipher import ClearText
from actors.security.sealed_snapshots import SealedSnapshots
from actors.store.obstore_objects import open_objects


class Store:
    """An object store that answers so many calls of `delete`, and then is away."""

    def __init__(self) -> None:
        self.inner = open_objects("memory://")
        self.answers: int | None = None

    async def delete(self, *keys: str) -> None:
        if self.answers == 0:
            raise StoreUnavailable("the store is away")
        self.answers = self.answers and self.answers - 1
        await self.inner.delete(*keys)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def leftovers(world: Any, store: Store) -> Leftovers:
    snapshots = SealedSnapshots(store, ClearText(), clock=world.clock)
    return Leftovers(world.database, lambda: snapshots, clock=world.clock)


async def open_session(world: Any, store: Store, session_id: str) -> None:
    await world.book.open(session_id, "user_1", SessionCreated("user_1", "scripted"))
    await store.put(f"workspaces/{session_id}/0000000001.saved", b"kept")


async def kept(store: Store) -> set[str]:
    return {info.key.split("/")[1] for info in await store.list("workspaces")}


async def test_only_what_is_deleted_goes_and_only_after_a_while(world: Any, store: Store, leftovers: Leftovers) -> None:
    for session_id in ("here", "gone"):
        await open_session(world, store, session_id)
    await world.book.delete("gone", "user_1")
    assert await leftovers.round() == 0
    assert await kept(store) == {"here", "gone"}
    world.clock.advance(AFTER.total_seconds())
    assert await leftovers.round() == 1
    assert await kept(store) == {"here"}
    assert await leftovers.round() == 0


async def test_a_store_that_goes_away_is_asked_again(world: Any, store: Store, leftovers: Leftovers) -> None:
    for number in range(3):
        await open_session(world, store, f"gone_{number}")
        await world.book.delete(f"gone_{number}", "user_1")
        world.clock.advance(1)
    world.clock.advance(AFTER.total_seconds())
    store.answers = 1
    with pytest.raises(StoreUnavailable):
        await leftovers.round()
    assert await kept(store) == {"gone_1", "gone_2"}
    store.answers = None
    assert await leftovers.round() == 2, "the one that is done is not done again"
    assert await kept(store) == set()


async def test_a_round_is_bounded(world: Any, store: Store, leftovers: Leftovers) -> None:
    for number in range(AT_ONCE + 1):
        await world.book.open(f"s_{number}", "user_1", SessionCreated("user_1", "scripted"))
        await world.book.delete(f"s_{number}", "user_1")
    world.clock.advance(timedelta(hours=1).total_seconds())
    assert [await leftovers.round() for _ in range(3)] == [AT_ONCE, 1, 0]


async def test_a_cluster_that_deletes_nothing_opens_no_store(world: Any) -> None:
    def refuse() -> SealedSnapshots:
        raise AssertionError("nothing is needed of it")

    assert await Leftovers(world.database, refuse, clock=world.clock).round() == 0
