"""The host judges: verdicts with an agent that answers late, wrongly or not at all."""

import asyncio

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import SandboxUnavailable
from actors.sandbox import agent_sandbox
from actors.sandbox.agent_sandbox import AgentSandbox
from actors.sandbox.base import Limits
from actors.sandbox.channel import AgentChannel
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
    """Counts of the kernel, as a test sets them."""

    def __init__(self):
        self.counts = [0]
        self.ended = 0

    def oom_kills(self):
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

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
    enclosure.counts = [2, 3]
    assert (await sandbox.shell("x", timeout_s=5)).verdict == "oom"
    assert (await sandbox.shell("x", timeout_s=5)).verdict == "ok"


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


@pytest.mark.parametrize(("operation", "reply"), [("read", ({"size": -1}, b"")), ("list", ({}, b"nonsense"))])
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
    agent.replies["list"] = [({}, b'[["a", 1, false], ["b", 1, false]]')]
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
