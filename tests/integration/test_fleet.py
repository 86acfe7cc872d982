"""Sessions in real actors: turns, who follows them, and where they live."""

import asyncio

import pytest
import ray

from actors.agent.sessions import TurnResult
from actors.core.errors import AtCapacity, SessionNotFound
from actors.core.events import MessageAccepted
from actors.handles import RemoteSessions
from actors.register import end_actor

SLOW = {"reply": {"text": ["One ", "two ", "three ", "four"], "gap_s": 0.5}}


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected):
    with run_node({}) as address, connected(address):
        yield


@pytest.fixture(scope="module")
def fleet(make_fleet, cluster):
    """Two session actors."""
    return make_fleet("main")


@pytest.fixture(scope="module")
def restless(make_fleet, cluster):
    """Sessions leave memory as soon as they are idle."""
    return make_fleet("restless", session_idle_s=0.3)


@pytest.fixture(scope="module")
def dedicated(make_fleet, cluster):
    """A process for each session, three at most."""
    return make_fleet("dedicated", sessions_per_actor=1, session_actors_per_node=1, session_actors_max_per_node=3)


@pytest.fixture
def spread(make_fleet):
    """Three session actors that nobody has used yet."""
    return make_fleet("spread", session_actors_per_node=3)


# Turns ----------------------------------------------------------------------------------------------


async def test_a_turn_through_the_actors(fleet):
    result = await fleet.say("Hi")

    assert (result.status, result.stop_reason, result.message) == ("completed", "end_turn", "Hello from the script.")
    assert result.spent.cost_known
    assert [e.body.type for e in await fleet.journal(result.session_id)] == [
        "session.created",
        "message.accepted",
        "turn.started",
        "message.completed",
        "usage.updated",
        "turn.completed",
    ]


async def test_many_sessions_at_once(fleet):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fleet.say(f"Hi {number}")) for number in range(40)]

    assert {task.result().message for task in tasks} == {"Hello from the script."}


async def test_a_message_that_is_sent_twice_is_one_turn(fleet):
    command = fleet.message("Hi")

    first = await fleet.sessions.submit(command)
    again = await fleet.sessions.submit(command)

    assert (again.turn_id, again.seq) == (first.turn_id, first.seq)
    events = await fleet.journal(first.session_id)
    assert len([e for e in events if isinstance(e.body, MessageAccepted)]) == 1


async def test_a_turn_is_followed_from_another_process(fleet, shown):
    # Long enough for a process to start meanwhile.
    receipt = await fleet.start({"reply": {"text": ["tick "] * 12, "gap_s": 0.5}})
    await shown(fleet, receipt)

    @ray.remote(num_cpus=0)
    def follow(namespace: str, session_id: str) -> tuple[list[int], str]:
        from actors.core.clock import SystemClock
        from actors.core.events import TERMINAL

        async def read() -> tuple[list[int], str]:
            sessions = RemoteSessions(namespace, SystemClock())
            numbers: list[int] = []
            previewed, seen = "", {}
            while True:
                last = numbers[-1] if numbers else 0
                batch = await sessions.follow(session_id, "user_1", after=last, seen=seen, wait_s=10)
                seen = batch.seen
                for preview in batch.previews:
                    previewed = previewed[: preview.offset] + preview.text
                for event in batch.events:
                    numbers.append(event.seq)
                    if isinstance(event.body, TERMINAL):
                        return numbers, previewed

        return asyncio.run(read())

    numbers, previewed = await follow.remote("main", receipt.session_id)

    assert numbers == list(range(1, len(await fleet.journal(receipt.session_id)) + 1))
    assert previewed
    assert ("tick " * 12).startswith(previewed)


async def test_a_turn_is_cancelled_from_another_process_than_its_own(fleet, shown):
    receipt = await fleet.start(SLOW)
    await shown(fleet, receipt)

    result = await fleet.sessions.cancel(receipt.session_id, "user_1", receipt.turn_id)

    assert result is not None
    assert result.status == "cancelled"
    assert await fleet.terminal(receipt.turn_id, receipt.session_id) == ["turn.cancelled"]


async def test_errors_of_ours_cross_as_themselves(fleet):
    mine = await fleet.say("Hi")

    with pytest.raises(SessionNotFound) as unknown:
        await fleet.start("Hi", "sess_none")
    with pytest.raises(SessionNotFound) as anothers:
        await fleet.sessions.follow(mine.session_id, "user_2", after=0, seen={}, wait_s=1)

    assert unknown.value.details == {"session_id": "sess_none"}
    assert anothers.value.message == unknown.value.message
    assert (await fleet.say({"reply": {"status": 401}})).error.code == "model_refused"


# Where sessions live --------------------------------------------------------------------------------


async def test_sessions_are_spread_over_the_actors_before_they_share_one(spread):
    places = []
    for _ in range(6):
        session = (await spread.say("Hi")).session_id
        places.append(await spread.host_of(session))

    assert len(set(places[:3])) == 3
    assert len(set(places[3:])) == 3
    assert sorted((await spread.sessions.directory.status()).hosts.values()) == [2, 2, 2]


async def test_with_one_session_an_actor_each_session_has_a_process_of_its_own(dedicated):
    sessions = [(await dedicated.say("Hi")).session_id for _ in range(3)]

    hosts = [await dedicated.host_of(session) for session in sessions]
    pids = {await dedicated.pid(dedicated.actors()[host]) for host in hosts}

    assert len(pids) == 3


async def test_a_full_fleet_makes_room_by_letting_idle_sessions_go(dedicated):
    sessions = [(await dedicated.say("Hi")).session_id for _ in range(5)]

    for session in sessions:
        assert (await dedicated.say("Still there?", session)).message == "Hello from the script."
    assert len(dedicated.actors()) <= 3


async def test_a_fleet_full_of_busy_sessions_says_so_and_takes_nothing_in(dedicated):
    async with asyncio.TaskGroup() as group:
        busy = [group.create_task(dedicated.start(SLOW)) for _ in range(3)]
    command = dedicated.message("Hi")

    refused: AtCapacity | None = None
    try:
        await dedicated.sessions.submit(command)
    except AtCapacity as error:
        refused = error

    if refused is None:
        # A turn ended meanwhile: then it has been taken in, whole.
        assert await dedicated.book.turn(command.turn_id, "user_1")
    else:
        assert refused.retryable
        with pytest.raises(SessionNotFound):
            await dedicated.book.get(command.session_id, "user_1")
    for task in busy:
        receipt = task.result()
        again = await dedicated.sessions.chat(dedicated.message("Hi", receipt.session_id), wait_s=60)
        assert isinstance(again, TurnResult)


async def test_processes_that_are_no_longer_needed_end(dedicated, eventually):
    page, _ = await dedicated.book.page("user_1", limit=100, after=None)
    for row in page:
        await dedicated.book.delete(row.id, "user_1")
        await dedicated.sessions.forget(row.id)

    async def shrunk():
        return len(dedicated.actors()) == 1

    await eventually(shrunk)


async def test_a_session_that_is_not_there_starts_no_process(dedicated):
    before = len(dedicated.actors())

    for number in range(3):
        with pytest.raises(SessionNotFound):
            await dedicated.start("Hi", f"sess_none_{number}")

    assert len(dedicated.actors()) == before


async def test_an_idle_session_leaves_memory_and_comes_back_with_all_it_knew(restless, eventually):
    first = await restless.say("My name is Ada.")

    async def gone():
        return await restless.host_of(first.session_id) is None

    await eventually(gone)
    second = await restless.say("Who am I?", first.session_id)

    # The server bills a quarter of the bytes that it was sent: the history was among them.
    assert second.spent.usage.prompt_tokens > first.spent.usage.prompt_tokens
    assert [e.body.type for e in await restless.journal(first.session_id)].count("turn.completed") == 2


async def test_a_session_goes_on_in_another_process(restless):
    session = (await restless.say("Hi")).session_id
    before = await restless.host_of(session) or "session:0"
    await restless.actors()[before].drain.remote(grace_s=1)

    result = await restless.say("Still there?", session)

    assert result.message == "Hello from the script."
    assert await restless.host_of(session) != before
    end_actor(restless.actors()[before])


async def test_a_drained_actor_is_replaced(restless, eventually):
    async def two():
        return len((await restless.sessions.directory.status()).hosts) == 2

    await eventually(two)
