"""The host judges: verdicts with an agent that answers late, wrongly or not at all."""

import asyncio

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import SandboxUnavailable
from actors.sandbox import agent_sandbox
from actors.sandbox.agent_sandbox import AgentSandbox
from actors.sandbox.base import Limits
from actors.sandbox.channel import AgentChannel
from actors.sandbox.counts import Counts
from actors.sandbox.inside.frames import FrameDecoder, encode


class Agent:
    """An agent as the other end of a transport; `replies` gives what it says to each operation."""

    def __init__(self):
        self.decoder = FrameDecoder()
        self.replies = {}
        self.heard = []
        self.channel = AgentChannel()
        self.channel.connection_made(self)
        self.channel.data_received(encode({"ready": True}))

    def write(self, data):
        for header, _ in self.decoder.feed(data):
            self.heard.append(header["op"])
            for more, payload in self.replies.get(header["op"], []):
                asyncio.get_running_loop().call_soon(
                    self.channel.data_received, encode({"id": header["id"], **more}, payload)
                )

    def abort(self):
        pass


class Enclosure:
    """Counts of the kernel, as a test sets them: before and after each command. `full` is None where nobody can see."""

    def __init__(self):
        self.before = self.after = Counts()
        self.full = False
        self.ended = 0

    def begin(self):
        return self.before

    def counts(self):
        return self.after

    def is_full(self):
        return self.full

    def end(self):
        self.ended += 1


@pytest.fixture
async def agent():
    return Agent()


@pytest.fixture
def enclosure():
    return Enclosure()


@pytest.fixture
def sandbox(agent, enclosure):
    return AgentSandbox(agent.channel, enclosure, Limits(output_bytes=100), clock=SystemClock())


@pytest.mark.parametrize(("code", "verdict", "exit_code"), [(0, "ok", 0), (3, "nonzero", 3), (-9, "nonzero", 137)])
async def test_verdict_by_exit_code(sandbox, agent, code, verdict, exit_code):
    agent.replies["shell"] = [({"out": True}, b"text"), ({"exit": code}, b"")]
    result = await sandbox.shell("x", timeout_s=5)
    assert (result.verdict, result.exit_code, result.output) == (verdict, exit_code, "text")


async def test_memory_is_judged_by_the_kernels_count(sandbox, agent, enclosure):
    agent.replies["shell"] = [({"exit": 0}, b"")]
    enclosure.before, enclosure.after = Counts(oom_kills=2), Counts(oom_kills=3)
    assert (await sandbox.shell("x", timeout_s=5)).verdict == "oom"
    enclosure.before = enclosure.after
    assert (await sandbox.shell("x", timeout_s=5)).verdict == "ok"


@pytest.mark.parametrize(("code", "verdict"), [(0, "ok"), (1, "pids")])
async def test_processes_are_judged_by_the_kernels_count(sandbox, agent, enclosure, code, verdict):
    """A program that was refused a process, and ended well, has found another way."""
    agent.replies["shell"] = [({"exit": code}, b"")]
    enclosure.after = Counts(forks_refused=1)
    assert (await sandbox.shell("x", timeout_s=5)).verdict == verdict


@pytest.mark.parametrize(("code", "verdict"), [(0, "ok"), (1, "disk")])
async def test_room_is_judged_from_outside(sandbox, agent, enclosure, code, verdict):
    agent.replies["shell"] = [({"exit": code}, b"")]
    enclosure.full = True
    assert (await sandbox.shell("x", timeout_s=5)).verdict == verdict
    assert agent.heard == ["shell"]


@pytest.mark.parametrize(
    ("room", "verdict"),
    [
        (b"[[0, 100, 50], [9000000, 100, 50]]", "disk"),
        (b"[[9000000, 100, 0]]", "disk"),
        (b"[[9000000, 0, 0]]", "nonzero"),  # nothing bounds its inodes
        (b"[]", "nonzero"),
    ],
)
async def test_where_room_cannot_be_seen_from_outside_the_agent_is_asked(sandbox, agent, enclosure, room, verdict):
    agent.replies["shell"] = [({"exit": 1}, b"")]
    agent.replies["room"] = [({}, room)]
    enclosure.full = None
    assert (await sandbox.shell("x", timeout_s=5)).verdict == verdict


async def test_nonsense_about_room_ends_the_sandbox_and_not_the_call(sandbox, agent, enclosure):
    agent.replies["shell"] = [({"exit": 1}, b"")]
    agent.replies["room"] = [({}, b"[1]")]
    enclosure.full = None
    assert (await sandbox.shell("x", timeout_s=5)).verdict == "nonzero"
    with pytest.raises(SandboxUnavailable):
        await sandbox.shell("x", timeout_s=5)


async def test_what_a_command_took_is_the_kernels_figure(sandbox, agent, enclosure):
    agent.replies["shell"] = [({"out": True}, b"x" * 150), ({"exit": 0}, b"")]
    enclosure.before = Counts(cpu_s=1.5, peak_memory_bytes=1)
    enclosure.after = Counts(cpu_s=1.75, peak_memory_bytes=4096)
    result = await sandbox.shell("x", timeout_s=5)
    assert (result.cpu_s, result.peak_memory_bytes, result.output_bytes) == (0.25, 4096, 150)


@pytest.mark.parametrize("variables", ["new", "kept", "gone"])
async def test_what_became_of_variables_is_passed_on(sandbox, agent, variables):
    agent.replies["keep"] = [({"exit": 0, "variables": variables}, b"")]
    assert (await sandbox.python("x", timeout_s=5, keep=True)).variables == variables
    agent.replies["python"] = [({"exit": 0}, b"")]
    assert (await sandbox.python("x", timeout_s=5)).variables is None


async def test_variables_that_are_none_of_these_are_a_lost_sandbox(sandbox, agent):
    agent.replies["keep"] = [({"exit": 0, "variables": "yes"}, b"")]
    assert (await sandbox.python("x", timeout_s=5, keep=True)).verdict == "sandbox_lost"


async def test_timeout_is_judged_by_the_hosts_clock(sandbox, agent):
    agent.replies["shell"] = [({"out": True}, b"so far")]
    agent.replies["kill"] = [({"exit": 0}, b"")]  # it claims that all is well
    result = await sandbox.shell("x", timeout_s=0.01)
    assert (result.verdict, result.output) == ("timeout", "so far")


async def test_flood_is_judged_by_the_hosts_count(sandbox, agent):
    agent.replies["shell"] = [({"out": True}, b"x" * 1700)]
    agent.replies["kill"] = [({"exit": -9}, b"")]
    result = await sandbox.shell("x", timeout_s=5)
    assert result.verdict == "output_limit"
    assert agent.heard == ["shell", "kill"]


async def test_agent_that_does_not_end_a_command_is_ended(sandbox, agent, enclosure, monkeypatch):
    monkeypatch.setattr(agent_sandbox, "KILL_GRACE_S", 0.01)
    result = await sandbox.shell("x", timeout_s=0.01)

    assert (result.verdict, result.exit_code) == ("sandbox_lost", None)
    assert enclosure.ended == 1
    with pytest.raises(SandboxUnavailable):
        await sandbox.shell("x", timeout_s=1)


async def test_cancelled_call_asks_for_the_end_and_waits_for_it(sandbox, agent):
    agent.replies["kill"] = [({"exit": -9}, b"")]
    running = asyncio.create_task(sandbox.shell("x", timeout_s=5))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert agent.heard == ["shell", "kill"]

    agent.replies["shell"] = [({"exit": 0}, b"")]
    assert (await sandbox.shell("y", timeout_s=5)).verdict == "ok"


async def test_connection_that_ends_is_a_lost_sandbox(sandbox, agent):
    running = asyncio.create_task(sandbox.shell("x", timeout_s=5))
    await asyncio.sleep(0)
    agent.channel.connection_lost(None)
    assert (await running).verdict == "sandbox_lost"


async def test_destroyed_while_running_is_cancelled(sandbox, agent, enclosure):
    running = asyncio.create_task(sandbox.shell("x", timeout_s=5))
    await asyncio.sleep(0)
    await sandbox.destroy()
    assert (await running).verdict == "cancelled"
    assert enclosure.ended == 1


@pytest.mark.parametrize(
    ("operation", "reply"),
    [("read", ({"size": -1}, b"")), ("list", ({"cut": False}, b"nonsense")), ("list", ({}, b"[]"))],
)
async def test_nonsense_in_an_answer_is_a_lost_sandbox(sandbox, agent, operation, reply):
    agent.replies[operation] = [reply]
    call = {"read": lambda: sandbox.read("f", max_bytes=1), "list": sandbox.list}[operation]
    with pytest.raises(SandboxUnavailable, match="nonsense"):
        await call()
    with pytest.raises(SandboxUnavailable):
        await call()


async def test_more_than_was_asked_for_is_not_taken(sandbox, agent):
    agent.replies["read"] = [({"size": 100}, b"x" * 100)]
    assert (await sandbox.read("f", max_bytes=10)).data == b"x" * 10
    agent.replies["list"] = [({"cut": False}, b'[["a", 1, false], ["b", 1, false]]')]
    assert len(await sandbox.list(max_entries=1)) == 1


async def test_a_watch_stops_a_command_and_is_told_of_its_end(agent, enclosure):
    watches = []

    def watch(stop):
        watches.append("begun")
        asyncio.get_running_loop().call_soon(stop, "oom")
        return lambda: watches.append("ended")

    agent.replies = {"kill": [({"exit": -9}, b"")]}
    sandbox = AgentSandbox(agent.channel, enclosure, Limits(), clock=SystemClock(), watch=watch)
    result = await sandbox.shell("take all", timeout_s=10)

    assert (result.verdict, result.exit_code) == ("oom", 137)
    assert agent.heard == ["shell", "kill"]
    assert watches == ["begun", "ended"]
