"""Processes die, are stopped, or come late: turns end, and sessions go on where they were."""

import asyncio
import os
import signal
import time
from contextlib import ExitStack

import pytest
from ray.exceptions import RayError

from actors.agent.sessions import TurnResult
from actors.core.clock import SystemClock
from actors.core.errors import GreenroomError
from actors.core.events import MessageAccepted, ToolOutcomeUnknown, TurnRecovering
from actors.handles import RemoteSessions
from actors.register import DIRECTORY, MEMORY, SANDBOX_PREFIX, SESSION_PREFIX, actor_named, named_actors
from actors.sandbox_handles import RemoteSandboxes
from actors.start import start_actors, stop_actors
from actors.store.migrate import upgrade

SLOW = {"reply": {"text": ["One ", "two ", "three ", "four"], "gap_s": 0.5}}


@pytest.fixture(scope="module")
def start_cluster(run_node, connected):
    """Starts the cluster, or the one after it."""
    with ExitStack() as running:

        def start() -> None:
            running.close()
            running.enter_context(connected(running.enter_context(run_node({}))))

        yield start


@pytest.fixture(scope="module")
def fleet(start_cluster, make_fleet):
    start_cluster()
    return make_fleet("main")


@pytest.fixture
def late(make_fleet):
    """A fleet that is not started, and whose database is not there yet."""
    return make_fleet("late", migrate=False, start=False, session_actors_per_node=1)


def actors_of(namespace: str) -> set[str]:
    prefixes = (DIRECTORY, MEMORY, SANDBOX_PREFIX, SESSION_PREFIX)
    return {name for prefix in prefixes for name in named_actors(prefix, namespace)}


# Killed ---------------------------------------------------------------------------------------------


async def test_a_turn_ends_although_its_process_is_killed_and_nobody_asks(fleet, shown, eventually):
    first = await fleet.start(SLOW)
    second = await fleet.start("And then?", first.session_id)
    await shown(fleet, first)
    host = await fleet.host_of(first.session_id)
    neighbours = await fleet.actors()[host].status.remote()

    os.kill(await fleet.pid(fleet.actors()[host]), signal.SIGKILL)

    async def ended():
        return await fleet.terminal(second.turn_id, first.session_id)

    assert await eventually(ended) == ["turn.completed"]
    assert await fleet.terminal(first.turn_id, first.session_id) == ["turn.completed"]
    events = await fleet.journal(first.session_id)
    assert len([e for e in events if isinstance(e.body, MessageAccepted)]) == 2
    assert [e.body.recoveries for e in events if isinstance(e.body, TurnRecovering)] == [1]
    assert first.session_id in neighbours.sessions


async def test_who_waits_for_a_turn_gets_its_result_although_the_process_is_killed(fleet, eventually):
    command = fleet.message(SLOW)
    waiting = asyncio.create_task(fleet.sessions.chat(command, wait_s=60))

    async def started():
        return await fleet.host_of(command.session_id)

    host = await eventually(started)
    os.kill(await fleet.pid(fleet.actors()[host]), signal.SIGKILL)

    result = await waiting
    assert isinstance(result, TurnResult)
    assert (result.turn_id, result.message) == (command.turn_id, "One two three four")
    assert await fleet.terminal(command.turn_id, command.session_id) == ["turn.completed"]


async def test_a_tool_that_ran_when_its_process_was_killed_is_not_run_again(fleet, eventually):
    code = "open('ran', 'a').write('once ')\nimport time\ntime.sleep(600)"
    call = {"tool_calls": [{"name": "run_python", "arguments": {"code": code}}]}
    turn = await fleet.start({"replies": [call, {"text": "It is unknown."}]})

    async def running():
        events = await fleet.journal(turn.session_id)
        return any(event.body.type == "tool.started" for event in events)

    await eventually(running)
    sandboxes = RemoteSandboxes("main")

    async def ran():
        return (await sandboxes.list(turn.session_id)) and (await sandboxes.read(turn.session_id, "ran", max_bytes=99))

    await eventually(ran)
    host = await fleet.host_of(turn.session_id)
    os.kill(await fleet.pid(fleet.actors()[host]), signal.SIGKILL)

    async def ended():
        return await fleet.terminal(turn.turn_id, turn.session_id)

    assert await eventually(ended) == ["turn.completed"]
    events = await fleet.journal(turn.session_id)
    assert len([e for e in events if isinstance(e.body, ToolOutcomeUnknown)]) == 1
    assert len([e for e in events if e.body.type == "tool.started"]) == 1
    assert (await sandboxes.read(turn.session_id, "ran", max_bytes=99)).data == b"once "
    # Nor does it run on: a further command need not wait until the program has slept.
    further = await sandboxes.shell(turn.session_id, "echo further", timeout_s=20)
    assert (further.verdict, further.output) == ("ok", "further\n")


async def test_numbers_go_on_after_a_process_was_killed(fleet, eventually):
    session = (await fleet.say("Hi")).session_id
    host = await fleet.host_of(session)

    os.kill(await fleet.pid(fleet.actors()[host]), signal.SIGKILL)
    await fleet.say("Still there?", session)

    assert (await fleet.journal(session))[-1].body.type == "turn.completed"
    batch = await fleet.sessions.follow(session, "user_1", after=0, seen={}, wait_s=5)
    assert [event.seq for event in batch.events] == list(range(1, 12))


async def test_a_reader_goes_on_over_the_death_of_the_process(fleet, shown):
    receipt = await fleet.start(SLOW)
    await shown(fleet, receipt)
    host = await fleet.host_of(receipt.session_id)
    pid = await fleet.pid(fleet.actors()[host])
    numbers: list[int] = []

    async with asyncio.timeout(60):
        while not await fleet.terminal(receipt.turn_id, receipt.session_id) or len(numbers) < 6:
            last = numbers[-1] if numbers else 0
            batch = await fleet.sessions.follow(receipt.session_id, "user_1", after=last, seen={}, wait_s=2)
            numbers += [event.seq for event in batch.events]
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                pid = None

    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_frozen_process_that_wakes_up_later_writes_nothing_any_more(fleet, shown, eventually):
    """A zombie: another process took its session over while it stood still."""
    turn = await fleet.start({"reply": {"text": ["tick "] * 6, "gap_s": 0.5}})
    await shown(fleet, turn)
    host = await fleet.host_of(turn.session_id)
    pid = await fleet.pid(fleet.actors()[host])

    async def silent():
        return host in (await fleet.sessions.directory.status()).silent

    async def awake():
        return not await silent()

    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(silent)
        others = RemoteSessions("main", SystemClock())
        second = await others.chat(fleet.message("Go on.", turn.session_id), wait_s=60)
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(awake)

    assert isinstance(second, TurnResult)
    assert await fleet.terminal(second.turn_id, turn.session_id) == ["turn.completed"]
    assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]
    third = await fleet.say("Still there?", turn.session_id)
    assert await fleet.terminal(third.turn_id, turn.session_id) == ["turn.completed"]


async def test_a_turn_of_a_process_that_stands_still_ends_elsewhere_without_anyone_asking(fleet, shown, eventually):
    turn = await fleet.start(SLOW)
    await shown(fleet, turn)
    pid = await fleet.pid(fleet.actors()[await fleet.host_of(turn.session_id)])

    async def ended():
        return await fleet.terminal(turn.turn_id, turn.session_id)

    os.kill(pid, signal.SIGSTOP)
    try:
        assert await eventually(ended, within_s=fleet.settings.session_silent_s + 30) == ["turn.completed"]
    finally:
        os.kill(pid, signal.SIGCONT)

    again = await fleet.say("Still there?", turn.session_id)
    assert await fleet.terminal(again.turn_id, turn.session_id) == ["turn.completed"]
    assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]


async def test_a_turn_goes_on_within_seconds_of_its_process_being_killed(fleet, shown, eventually, record_property):
    took = []
    for _ in range(3):
        turn = await fleet.start(SLOW)
        await shown(fleet, turn)
        pid = await fleet.pid(fleet.actors()[await fleet.host_of(turn.session_id)])
        before = len(await fleet.journal(turn.session_id))

        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()

        async def further(turn=turn, before=before):
            return len(await fleet.journal(turn.session_id)) > before

        await eventually(further)
        took.append(time.monotonic() - killed)

        async def ended(turn=turn):
            return await fleet.terminal(turn.turn_id, turn.session_id)

        assert await eventually(ended) == ["turn.completed"]
    record_property("next_event_s", [round(one, 2) for one in took])


async def test_a_message_for_a_process_that_stands_still_is_taken_by_another(fleet):
    """The directory knows within seconds that it is silent: the sender is not to wait for it much longer."""
    session = (await fleet.say("Hi")).session_id
    pid = await fleet.pid(fleet.actors()[await fleet.host_of(session)])

    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(40):
            receipt = await fleet.start("Are you there?", session)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert receipt.session_id == session


async def test_calls_go_on_without_the_directory_and_it_comes_back(fleet, eventually):
    session = (await fleet.say("Hi")).session_id
    directory = actor_named(DIRECTORY, "main")
    pid = await fleet.pid(directory)

    os.kill(pid, signal.SIGKILL)

    known = await fleet.say("Are you there?", session)
    new = await fleet.say("And for new ones?")
    assert (known.message, new.message) == ("Hello from the script.",) * 2

    async def back():
        try:
            status = await fleet.sessions.directory.status()
        except GreenroomError:
            return False
        return len(status.hosts) >= 2 and not status.silent and status

    status = await eventually(back)
    assert status.sessions >= 2
    assert await fleet.pid(directory) != pid


async def test_a_directory_that_could_not_open_its_database_opens_it_later(late, eventually):
    """A database that starts after the actors, or that restarts while they start."""
    await start_actors(late.settings)
    with pytest.raises(GreenroomError):
        await late.say("Hi")

    upgrade(late.settings.resolved_database_url)

    async def opened():
        try:
            await late.say("Hi")
        except GreenroomError:
            return False
        return True

    await eventually(opened, within_s=60)
    assert (await late.say("Hi")).message == "Hello from the script."


# Stopped and started -----------------------------------------------------------------------------


async def test_stopping_lets_turns_end_and_leaves_no_actor_and_starting_finds_every_session(fleet):
    before = await fleet.say("My name is Ada.")
    running = await fleet.start(SLOW)
    assert len(actors_of("main")) >= 4

    await stop_actors(fleet.settings, grace_s=30)

    assert actors_of("main") == set()
    with pytest.raises((GreenroomError, RayError)):
        await fleet.sessions.directory.status()
    assert await fleet.terminal(running.turn_id, running.session_id) == ["turn.completed"]
    assert not [e for e in await fleet.journal(running.session_id) if isinstance(e.body, TurnRecovering)]

    await start_actors(fleet.settings)

    after = await fleet.say("Who am I?", before.session_id)
    assert after.spent.usage.prompt_tokens > before.spent.usage.prompt_tokens
    assert [event.body.type for event in await fleet.journal(before.session_id)].count("turn.completed") == 2


async def test_a_turn_that_did_not_end_in_time_ends_after_the_start_without_anyone_asking(fleet, eventually):
    turn = await fleet.start(SLOW)

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
    first = asyncio.run(fleet.say("Hi"))

    start_cluster()
    fleet.sessions = RemoteSessions("main", SystemClock())
    asyncio.run(start_actors(fleet.settings))
    second = asyncio.run(fleet.say("Still there?", first.session_id))

    assert second.message == "Hello from the script."
    assert [event.seq for event in asyncio.run(fleet.journal(first.session_id))] == list(range(1, 12))
