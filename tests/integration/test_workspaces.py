"""A session's files on a machine that leaves are there on the next one."""

import asyncio

import pytest

from actors.register import SANDBOX_PREFIX, named_actors
from actors.sandbox_handles import RemoteSandboxes
from actors.vacate import vacate


@pytest.fixture(scope="module")
def machines(run_machines, connected):
    with run_machines() as machines, connected(machines.address):
        yield machines


@pytest.fixture(scope="module")
def fleet(machines, make_fleet):
    machines.add(session_host=8, sandbox=1)
    return make_fleet("workspaces", session_actors_per_node=1)


@pytest.fixture
async def leaving(machines, fleet, eventually):
    """Another machine, with its sandbox actor."""
    added = await asyncio.to_thread(machines.add, session_host=8, sandbox=1)

    async def ready():
        return SANDBOX_PREFIX + added.id in named_actors(SANDBOX_PREFIX, "workspaces")

    await eventually(ready)
    return added


def shell(command):
    call = {"tool_calls": [{"name": "run_shell", "arguments": {"command": command}}]}
    return {"replies": [call, {"text": "Done."}]}


async def test_a_session_whose_machine_is_drained_finds_its_files_on_the_next_one(fleet, leaving):
    home = SANDBOX_PREFIX + leaving.id
    for _ in range(40):
        first = await fleet.say(shell("mkdir -p d && echo kept > d/file"))
        if await RemoteSandboxes("workspaces")._holder(first.session_id) == home:
            break
    else:
        pytest.fail("no session had its sandbox on the machine that is to leave")

    await vacate(fleet.settings, leaving.id, within_s=30)
    assert home not in named_actors(SANDBOX_PREFIX, "workspaces")
    second = await fleet.say(shell("cat d/file"), first.session_id)

    said = [event.body for event in await fleet.journal(first.session_id) if event.body.type == "tool.completed"]
    assert second.status == "completed"
    assert said[-1].content == "kept"
