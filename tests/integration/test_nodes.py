"""Several machines: the fleet spreads over those that join, and what ran on those that are lost goes on elsewhere."""

import asyncio
import signal
import subprocess
import sys
import time

import psutil
import pytest
import ray

from actors.agent.sessions import TurnResult
from actors.core.errors import GreenroomError, SandboxUnavailable
from actors.directory_actor import DirectoryActor
from actors.memory_actor import MemoryActor
from actors.memory_handles import RemoteMemories
from actors.ray_fleet import lasting
from actors.register import DIRECTORY, MEMORY, SANDBOX_PREFIX, actor_named, end_actor, named_actors
from actors.sandbox_handles import RemoteSandboxes
from actors.start import start_actors
from actors.vacate import vacate

LONG = {"reply": {"text": ["tick "] * 12, "gap_s": 0.5}}
"""A turn of six seconds."""


@pytest.fixture(scope="module")
def machines(run_machines, connected):
    with run_machines() as machines, connected(machines.address):
        yield machines


@pytest.fixture(scope="module")
def first(machines):
    return machines.add(session_host=8, sandbox=1)


@pytest.fixture(scope="module")
def fleet(machines, first, make_fleet):
    return make_fleet("nodes", session_silent_s=5)


@pytest.fixture
async def second(machines, fleet, spread, eventually):
    """Another machine, with its share of the session actors."""
    added = await asyncio.to_thread(machines.add, session_host=8, sandbox=1)

    async def shared():
        return len((await spread()).get(added.id, ())) == 2 and SANDBOX_PREFIX + added.id in sandboxes()

    await eventually(shared)
    return added


@pytest.fixture
def spread(fleet):
    """The session actors that answer, by machine."""

    async def where() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, actor in fleet.actors().items():
            try:
                async with asyncio.timeout(2):
                    found.setdefault(await actor.watch.remote(0), []).append(name)
            except (ray.exceptions.RayError, TimeoutError):
                continue
        return found

    return where


def own_node(_) -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def sandboxes() -> set[str]:
    return set(named_actors(SANDBOX_PREFIX, "nodes"))


async def turns_on(fleet, machine, spread, *, at_least=2):
    """Turns that run, `at_least` so many of them on a machine."""
    hosts = set((await spread())[machine.id])
    running, there = [], 0
    while there < at_least:
        receipt = await fleet.start(LONG)
        running.append(receipt)
        there += await fleet.host_of(receipt.session_id) in hosts
    return running


async def ends(fleet, turns, eventually):
    async def all_ended():
        return all([await fleet.terminal(turn.turn_id, turn.session_id) for turn in turns])

    await eventually(all_ended)
    for turn in turns:
        assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]


async def recovered_after(fleet, turns, eventually):
    """Seconds until each of those turns that was cut off was taken over; a slow machine lets some end before that."""
    begun = time.monotonic()

    async def told():
        return [{event.body.type for event in await fleet.journal(turn.session_id)} for turn in turns]

    async def taken_over():
        return all({"turn.recovering", "turn.completed"} & types for types in await told())

    await eventually(taken_over)
    took = time.monotonic() - begun
    assert any("turn.recovering" in types for types in await told()), "none was cut off"
    return took


async def test_a_machine_that_joins_gets_session_actors_and_one_sandbox_actor(fleet, first, second, spread):
    assert {machine: len(names) for machine, names in (await spread()).items()} == {first.id: 2, second.id: 2}
    assert sandboxes() == {SANDBOX_PREFIX + first.id, SANDBOX_PREFIX + second.id}


async def test_every_turn_of_a_machine_that_is_killed_ends_without_anyone_asking(
    fleet, first, second, spread, eventually, record_property
):
    hosts = set((await spread())[second.id])
    turns = await turns_on(fleet, second, spread)
    cut_off = [turn for turn in turns if await fleet.host_of(turn.session_id) in hosts]

    second.send(signal.SIGKILL)

    took = await recovered_after(fleet, cut_off, eventually)
    record_property("taken_over_s", round(took, 2))
    print(f"taken over after {took:.2f} s")
    await ends(fleet, turns, eventually)

    async def forgotten():
        status = await fleet.sessions.directory.status()
        return SANDBOX_PREFIX + second.id not in sandboxes() and not status.silent

    await eventually(forgotten, within_s=60)


async def test_every_turn_of_a_machine_that_says_nothing_ends_without_anyone_asking(
    fleet, first, second, spread, eventually, record_property
):
    """A network that is cut, a machine that swaps: no connection breaks, and it may come back."""
    hosts = set((await spread())[second.id])
    turns = await turns_on(fleet, second, spread)
    cut_off = [turn for turn in turns if await fleet.host_of(turn.session_id) in hosts]

    second.send(signal.SIGSTOP)
    try:
        took = await recovered_after(fleet, cut_off, eventually)
        record_property("taken_over_s", round(took, 2))
        print(f"taken over after {took:.2f} s")
        await ends(fleet, turns, eventually)
    finally:
        second.send(signal.SIGCONT)
    for turn in turns:
        again = await fleet.sessions.chat(fleet.message("Still there?", turn.session_id), wait_s=60)
        assert isinstance(again, TurnResult)
        assert await fleet.terminal(again.turn_id, turn.session_id) == ["turn.completed"]
        assert await fleet.terminal(turn.turn_id, turn.session_id) == ["turn.completed"]
    second.send(signal.SIGKILL)


async def test_a_session_keeps_its_workspace_when_it_moves_and_gets_another_when_it_is_lost(first, second, eventually):
    there = RemoteSandboxes("nodes")
    while there._homes.get("s1", ("",))[0] != SANDBOX_PREFIX + second.id:
        # It is on this driver's machine, or on one that is chosen by the session's id: asked until it is the second.
        there = RemoteSandboxes("nodes")
        there._settle("s1", SANDBOX_PREFIX + second.id)
        await there.write("s1", "a.txt", b"kept")

    elsewhere = RemoteSandboxes("nodes")
    assert (await elsewhere.read("s1", "a.txt", max_bytes=10)).data == b"kept"

    second.send(signal.SIGKILL)
    with pytest.raises(SandboxUnavailable):
        await elsewhere.read("s1", "a.txt", max_bytes=10)

    async def works():
        try:
            return (await elsewhere.python("s1", "print(1)", timeout_s=30)).output == "1\n"
        except SandboxUnavailable:
            return False

    await eventually(works)


# Machines that leave --------------------------------------------------------------------------------


async def recovered(fleet, turn):
    return [e for e in await fleet.journal(turn.session_id) if e.body.type == "turn.recovering"]


async def test_a_machine_that_is_drained_lets_its_turns_end_and_gets_nothing_new(fleet, second, spread, eventually):
    turns = await turns_on(fleet, second, spread)
    hosts = set((await spread())[second.id])
    staying = [turn for turn in turns if await fleet.host_of(turn.session_id) in hosts]

    vacating = asyncio.create_task(vacate(fleet.settings, second.id, within_s=60))

    async def leaving():
        return set((await fleet.sessions.directory.status()).leaving) == hosts

    await eventually(leaving)
    for _ in range(4):
        assert await fleet.host_of((await fleet.say("I am new.")).session_id) not in hosts
    queued = [await fleet.start("And then?", turn.session_id) for turn in staying]
    vacated = await vacating

    assert (set(vacated.hosts), vacated.left) == (hosts, ())
    assert vacated.took_s < 30
    await ends(fleet, [*turns, *queued], eventually)
    for turn in turns:
        assert await recovered(fleet, turn) == []  # every one could end in time
    assert SANDBOX_PREFIX + second.id not in sandboxes()
    assert second.id not in await spread()

    async def gone():
        # With nothing on it, Ray ends a machine that is drained.
        return not psutil.pid_exists(second.raylet) or psutil.Process(second.raylet).status() == psutil.STATUS_ZOMBIE

    await eventually(gone, within_s=60)


async def test_what_does_not_end_before_a_machine_leaves_goes_on_elsewhere(
    fleet, machines, second, spread, eventually, ray_environment
):
    """By the command that a pod's preStop hook runs."""
    endless = {"reply": {"text": ["tick "] * 60, "gap_s": 0.5}}
    hosts = set((await spread())[second.id])
    turn = None
    while turn is None or await fleet.host_of(turn.session_id) not in hosts:
        turn = await fleet.start(endless)

    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from cluster.cli import main; main()", "drain-node"),
        *("--within", "6", "--address", machines.address, "--node-id", second.id),
        env={**ray_environment, "GREENROOM_NAMESPACE": "nodes", "GREENROOM_HOME": str(fleet.settings.home)},
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(40):
        said, _ = await command.communicate()

    assert (command.returncode, said.startswith(b"Empty after")) == (0, True), said
    assert second.id not in await spread()

    async def goes_on():
        return await recovered(fleet, turn)

    await eventually(goes_on)
    assert await fleet.host_of(turn.session_id) not in hosts
    await fleet.sessions.cancel(turn.session_id, "user_1", turn.turn_id)


@pytest.fixture
def lonely(machines, first, make_fleet):
    """A fleet whose directory and memories are on the machine that will be lost."""
    machine = machines.add(session_host=8)
    fleet = make_fleet("lonely", start=False, session_actors_per_node=1)
    for name, kind in ((DIRECTORY, DirectoryActor), (MEMORY, MemoryActor)):
        # Ray places what needs no resource where it likes, and soft affinity does not change that.
        for _ in range(40):
            actor = kind.options(name=name, max_concurrency=1_000, **lasting(fleet.settings)).remote(fleet.settings)
            if ray.get(actor.__ray_call__.remote(own_node), timeout=30) == machine.id:
                break
            end_actor(actor)
    asyncio.run(start_actors(fleet.settings))
    asyncio.run(fleet.warm())
    return fleet, machine


async def test_directory_and_memories_come_back_elsewhere(lonely, spread, eventually, record_property):
    fleet, machine = lonely
    for name in (DIRECTORY, MEMORY):
        assert await actor_named(name, "lonely").__ray_call__.remote(own_node) == machine.id
    turns = [await fleet.start(LONG) for _ in range(4)]

    machine.send(signal.SIGKILL)
    begun = time.monotonic()

    async def back():
        try:
            return (await fleet.say("Hi")).message
        except GreenroomError:
            return False

    await eventually(back, within_s=60)
    record_property("new_sessions_again_s", round(time.monotonic() - begun, 2))
    print(f"new sessions again after {time.monotonic() - begun:.2f} s")
    await ends(fleet, turns, eventually)

    async def remembers():
        try:
            await RemoteMemories("lonely", timeout_s=20).recall("user_1", "anything")
        except GreenroomError:
            return False
        return True

    await eventually(remembers, within_s=60)
