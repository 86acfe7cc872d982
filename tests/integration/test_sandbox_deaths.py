"""The process of a machine's sandboxes is killed: nothing of them outlives it, and their sessions go on."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from actors.core.events import ToolOutcomeUnknown
from actors.register import SANDBOX_PREFIX, named_actors
from actors.sandbox.cgroups import Surroundings, find_control_groups
from actors.sandbox_handles import RemoteSandboxes


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected):
    with run_node({}) as address, connected(address):
        yield


@pytest.fixture(scope="module")
def fleet(make_fleet, cluster):
    return make_fleet("lost", sandbox="bubblewrap", sandbox_freeze_s=0.5)


@pytest.fixture
def sandboxes(fleet) -> RemoteSandboxes:
    return RemoteSandboxes("lost")


@pytest.fixture
def killed(fleet):
    """Kills the process of the sandboxes as nothing else can; what was in its groups then."""

    async def kill() -> tuple[int, list[psutil.Process]]:
        (actor,) = named_actors(SANDBOX_PREFIX, "lost").values()
        pid = await fleet.pid(actor)
        inside = [psutil.Process(each) for folder in groups(pid) for each in processes_of(folder)]
        os.kill(pid, signal.SIGKILL)
        return pid, inside

    return kill


def groups(owner: int) -> list[Path]:
    """Control groups that a process has made for its sandboxes."""
    found = find_control_groups(Surroundings.of_this_process())
    assert found.places
    places = {*found.places.values(), *((found.freezer,) if found.freezer else ())}
    return [folder for place in places for folder in place.glob(f"*.{owner}.*-*/")]


def processes_of(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]


def running(marker: str) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cmdline"]) if any(marker in w for w in p.info["cmdline"] or ())]


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_tool_that_was_running_ends_as_unknown_and_the_session_gets_another_sandbox(fleet, killed, eventually):
    first = {"tool_calls": [{"name": "run_shell", "arguments": {"command": "echo once >> ran; sleep 54321.25"}}]}
    second = {"tool_calls": [{"name": "run_python", "arguments": {"code": "import os; print(os.listdir())"}}]}
    turn = await fleet.start({"replies": [first, second, {"text": "It is unknown."}]})

    async def started():
        return running("54321.25")

    await eventually(started)
    pid, inside = await killed()
    assert inside

    async def ended():
        return await fleet.terminal(turn.turn_id, turn.session_id)

    assert await eventually(ended) == ["turn.completed"]
    events = await fleet.journal(turn.session_id)
    types = [event.body.type for event in events]
    assert [e.body.name for e in events if isinstance(e.body, ToolOutcomeUnknown)] == ["run_shell"]
    assert types.count("tool.started") == 2
    assert "turn.recovering" not in types  # the session's own process has not noticed
    (after,) = [event.body for event in events if event.body.type == "tool.completed"]
    told = "[The workspace is empty because its sandbox was lost before it was kept.]"
    assert (after.name, after.error, after.content) == ("run_python", None, f"{told}\n[]")
    assert running("54321.25") == []
    assert not [process for process in inside if lives(process)]
    assert groups(pid) == []


async def test_what_was_frozen_does_not_outlive_it_either(fleet, sandboxes, killed, eventually):
    await sandboxes.write("s1", "note", b"kept")
    (actor,) = named_actors(SANDBOX_PREFIX, "lost").values()
    pid = await fleet.pid(actor)

    async def frozen():
        states = [folder / "freezer.state" for folder in groups(pid)]
        states = [state.read_text().strip() for state in states if state.exists()]
        flags = [folder / "cgroup.freeze" for folder in groups(pid)]
        return "FROZEN" in states or any(flag.exists() and flag.read_text().strip() == "1" for flag in flags)

    await eventually(frozen)
    pid, inside = await killed()
    assert inside

    assert await sandboxes.list("s2") == ()  # another session's: the actor has come back

    async def gone():
        return not [process for process in inside if lives(process)] and not groups(pid)

    await eventually(gone)
    assert await RemoteSandboxes("lost").list("s1") == ()


async def test_a_call_that_comes_while_it_starts_again_waits_for_it(sandboxes, killed):
    await killed()
    assert (await RemoteSandboxes("lost").python("s3", "print(6 * 7)", timeout_s=30)).output == "42\n"
