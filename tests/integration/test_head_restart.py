"""The head of the cluster (Ray's GCS) is killed and comes back over its Redis: nothing of a session is lost."""

import asyncio
import os
import signal
import time

import pytest

from actors.agent.sessions import TurnResult
from actors.core.events import TurnRecovering
from actors.ray_fleet import start_session_actor
from actors.register import HeadAway, Register, end_actor
from actors.testing.redis_server import RedisServer

LONG = {"reply": {"text": ["tick "] * 12, "gap_s": 0.5}}
TOOL = {"tool_calls": [{"name": "run_python", "arguments": {"code": "print(6 * 7)"}}]}


@pytest.fixture(scope="module")
def redis(short_dir):
    """A Redis that keeps what it was told."""
    folder = short_dir / "redis"
    folder.mkdir()
    server = RedisServer(folder, kept=True)
    server.start()
    yield server.address
    server.stop()


@pytest.fixture(scope="module")
def machines(run_machines, connected, redis):
    environment = {"RAY_REDIS_ADDRESS": redis, "RAY_external_storage_namespace": "tests"}
    with run_machines(**environment) as machines, connected(machines.address):
        machines.add(session_host=8, sandbox=1)
        yield machines


@pytest.fixture(scope="module")
def fleet(machines, make_fleet):
    return make_fleet("head")


async def seconds_until(condition, eventually, *, within_s=30):
    begun = time.monotonic()
    await eventually(condition, within_s=within_s)
    return time.monotonic() - begun


def questions(fleet, register, before):
    """Does it know everybody, can an actor be made, does every session actor answer the directory?"""

    async def known_again():
        try:
            return set(await register.names("")) == before and await register.nodes()
        except HeadAway:
            return False

    async def made():
        try:
            actor = await register.run(lambda: start_session_actor("probe:0", fleet.settings))
            async with asyncio.timeout(10):
                await actor.status.remote()
        except (HeadAway, TimeoutError):
            return False
        end_actor(actor)
        return True

    async def whole():
        status = await fleet.sessions.directory.status()
        return len(status.hosts) == 2 and not status.silent

    return known_again, made, whole


async def host_of(fleet, session_id):
    """Its session actor, found without the head."""
    for name in (await fleet.sessions.directory.status()).hosts:
        host = await fleet.sessions.register.find(name)
        if session_id in (await host.status.remote()).sessions:
            return host
    raise AssertionError("no session actor has it")


async def test_turns_end_sessions_stay_and_new_processes_can_be_made(machines, fleet, eventually, record_property):
    with_tool = {"replies": [TOOL, {"text": "Done."}]}
    known = [(await fleet.say(with_tool)).session_id for _ in range(4)]
    turns = [await fleet.start(LONG) for _ in range(4)]
    register = Register("head")
    before = await register.names("")

    os.kill(machines.gcs, signal.SIGKILL)

    # Without it: what is known answers, new sessions find a place, a lost process hands on its turns.
    for session in known:
        assert (await fleet.say("Still there?", session)).message == "Hello from the script."
    assert (await fleet.say(with_tool, known[0])).tools[0].content.strip() == "42"
    fresh = (await fleet.say("I am new.")).session_id
    os.kill(await fleet.pid(await host_of(fleet, turns[0].session_id)), signal.SIGKILL)

    async def taken_over():
        return any(isinstance(e.body, TurnRecovering) for e in await fleet.journal(turns[0].session_id))

    await seconds_until(taken_over, eventually)

    await asyncio.to_thread(machines.restart_gcs)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(seconds_until(ask, eventually)) for ask in questions(fleet, register, set(before))]
    known_again_s, made_s, whole_s = (round(task.result(), 2) for task in tasks)
    record_property("known_again_s", known_again_s)
    record_property("made_s", made_s)
    record_property("whole_s", whole_s)
    print(f"known again after {known_again_s} s, an actor made after {made_s} s, fleet whole after {whole_s} s")

    async def ended():
        return all([await fleet.terminal(turn.turn_id, turn.session_id) for turn in turns])

    await eventually(ended)
    for turn in turns:
        assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]
    for session in [*known, fresh, *(turn.session_id for turn in turns)]:
        result = await fleet.sessions.chat(fleet.message("And now?", session), wait_s=30)
        assert isinstance(result, TurnResult)
        assert result.message == "Hello from the script."
        await fleet.journal(session)  # numbered without gaps


async def test_machines_wait_for_it_and_join_afterwards(machines, fleet, eventually):
    os.kill(machines.gcs, signal.SIGKILL)
    turn = await fleet.say(LONG)
    await asyncio.to_thread(machines.restart_gcs)
    joined = await asyncio.to_thread(machines.add, session_host=8)
    register = Register("head")

    async def there():
        try:
            return joined.id in {node.id for node in await register.nodes()}
        except HeadAway:
            return False

    await eventually(there, within_s=60)

    async def grown():
        return len((await fleet.sessions.directory.status()).hosts) == 4

    await eventually(grown, within_s=60)
    assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]
