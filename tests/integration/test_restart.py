"""Stop everything, start it again on the same home: sessions go on where they were."""

import pytest
from ray.exceptions import RayError

from actors.core.errors import GreenroomError
from actors.core.events import TurnRecovering
from actors.handles import DIRECTORY, MEMORY, SANDBOX_PREFIX, named_actors
from actors.start import start_actors, stop_actors

SLOW = {"reply": {"text": ["One ", "two ", "three ", "four"], "gap_s": 0.5}}


@pytest.fixture(scope="module")
def start_cluster(run_node, connected):
    """Starts the cluster, or the one after it."""
    from contextlib import ExitStack

    with ExitStack() as running:

        def start() -> None:
            running.close()
            running.enter_context(connected(running.enter_context(run_node({}))))

        yield start


@pytest.fixture(scope="module")
def fleet(start_cluster, make_fleet):
    start_cluster()
    return make_fleet("main")


def actors_of(namespace: str) -> set[str]:
    prefixes = (DIRECTORY, MEMORY, SANDBOX_PREFIX, "session:")
    return {name for prefix in prefixes for name in named_actors(prefix, namespace)}


async def test_stopping_leaves_no_actor_and_starting_again_finds_every_session(fleet):
    before = await fleet.say("My name is Ada.")
    assert len(actors_of("main")) >= 4

    await stop_actors(fleet.settings, grace_s=5)
    assert actors_of("main") == set()
    with pytest.raises((GreenroomError, RayError)):
        await fleet.sessions.directory.status()
    await start_actors(fleet.settings)

    after = await fleet.say("Who am I?", before.session_id)
    assert after.spent.usage.prompt_tokens > before.spent.usage.prompt_tokens
    assert [event.body.type for event in await fleet.journal(before.session_id)].count("turn.completed") == 2


async def test_turns_get_the_grace_to_end(fleet, eventually):
    turn = await fleet.start(SLOW)

    await stop_actors(fleet.settings, grace_s=30)

    assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]
    assert not [e for e in await fleet.journal(turn.session_id) if isinstance(e.body, TurnRecovering)]
    await start_actors(fleet.settings)


async def test_a_turn_that_did_not_end_in_time_ends_after_the_start_without_anyone_asking(fleet, eventually):
    turn = await fleet.start({"reply": {"text": ["tick "] * 10, "gap_s": 0.5}})

    await stop_actors(fleet.settings, grace_s=0)
    assert await fleet.terminal(turn.turn_id, turn.session_id) == []
    await start_actors(fleet.settings)

    async def ended():
        return await fleet.terminal(turn.turn_id, turn.session_id)

    assert await eventually(ended) == ["turn.completed"]


async def test_starting_twice_starts_nothing_twice(fleet):
    before = {name: await fleet.pid(actor) for name, actor in fleet.actors().items()}

    await start_actors(fleet.settings)

    assert {name: await fleet.pid(actor) for name, actor in fleet.actors().items()} == before


def test_a_new_cluster_on_the_same_home_goes_on(fleet, start_cluster):
    """Not a coroutine: the processes of a cluster belong to the thread that started them."""
    import asyncio

    first = asyncio.run(fleet.say("Hi"))

    start_cluster()
    asyncio.run(start_actors(fleet.settings))
    second = asyncio.run(fleet.say("Still there?", first.session_id))

    assert second.message == "Hello from the script."
    assert [event.seq for event in asyncio.run(fleet.journal(first.session_id))] == list(range(1, 12))
