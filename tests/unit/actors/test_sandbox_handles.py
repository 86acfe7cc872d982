"""Where a session's sandbox is, as processes know it that the session visits in turn."""

import asyncio
import inspect

import pytest

from actors import sandbox_handles
from actors.core.errors import LeaseEnded, SandboxLost, SandboxUnavailable
from actors.ray_errors import ActorGone
from actors.sandbox.base import Sandboxes
from actors.sandbox.fence import Fence, bound
from actors.sandbox_actor import SandboxActor
from actors.sandbox_handles import RemoteSandboxes


class Method:
    def __init__(self, function):
        self.remote = function


class Actor:
    """A sandbox actor: workspaces by session, and the number of each lease. `dying` calls find it dead."""

    def __init__(self):
        self.files = {}
        self.leases = {}
        self.interrupted = []
        self.fences = []
        self.stopped = []
        self.dying = 0
        self.hangs = False
        self.holds = Method(self._holds)
        self.lease = Method(self._lease)
        self.write = Method(self._write)
        self.interrupt = Method(self._interrupt)
        self.stop = Method(self.stopped.append)

    async def _holds(self, session_id):
        return session_id in self.files

    async def _lease(self, _call_id, session_id, *, fence):
        self._die()
        self.fences.append(fence)
        while self.hangs:
            await asyncio.Event().wait()
        return self.leases.setdefault(session_id, 1 + len(self.leases))

    async def _write(self, session_id, path, data, *, fence):
        self._die()
        self.fences.append(fence)
        if self.leases.get(session_id) != fence.lease:
            raise LeaseEnded
        self.files.setdefault(session_id, {})[path] = data

    async def _interrupt(self, session_id):
        self.interrupted.append(session_id)

    def _die(self):
        if self.dying:
            self.dying -= 1
            raise ActorGone("it died")


class Machines:
    """Two machines with a sandbox actor each; `here` is the one that the caller runs on."""

    def __init__(self):
        self.actors = {"sandbox:n1": Actor(), "sandbox:n2": Actor()}
        self.here = "n1"

    async def find(self, name):
        return self.actors[name]

    async def all(self, _prefix):
        return self.actors

    async def nodes(self):
        return ()

    def doubt(self, name):
        pass


@pytest.fixture
def until():
    """Let other tasks run until a condition holds, for 5 seconds at most."""

    async def wait(condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110  any of several tasks may bring it about
                await asyncio.sleep(0)

    return wait


@pytest.fixture
def machines(monkeypatch):
    machines = Machines()
    monkeypatch.setattr(sandbox_handles, "Register", lambda _namespace: machines)
    monkeypatch.setattr(sandbox_handles, "_own_node", lambda: machines.here)
    monkeypatch.setattr(sandbox_handles, "AGAIN_PAUSE_S", 0.0)
    return machines


async def test_a_process_to_which_a_session_comes_back_finds_the_sandbox_it_has_now(machines, monkeypatch):
    monkeypatch.setattr(sandbox_handles, "HOME_S", 0.0)
    first, second = RemoteSandboxes("x"), RemoteSandboxes("x")
    await first.write("s", "old", b"")
    machines.actors["sandbox:n1"].files.clear()  # it was idle too long
    machines.here = "n2"
    await second.write("s", "new", b"")

    machines.here = "n1"
    await first.write("s", "newest", b"")

    assert machines.actors["sandbox:n1"].files == {}
    assert list(machines.actors["sandbox:n2"].files["s"]) == ["new", "newest"]


async def test_homes_are_not_remembered_without_end(machines, monkeypatch):
    monkeypatch.setattr(sandbox_handles, "HOMES_MAX", 3)
    sandboxes = RemoteSandboxes("x")
    for number in range(10):
        await sandboxes.write(f"s{number}", "f", b"")
    assert list(sandboxes._homes) == ["s7", "s8", "s9"]


async def test_every_actor_is_told_to_interrupt(machines):
    await RemoteSandboxes("x").interrupt("s")
    assert [actor.interrupted for actor in machines.actors.values()] == [["s"], ["s"]]


async def test_calls_are_for_the_lease_that_was_given_and_in_the_name_of_the_epoch(machines):
    with bound(Fence(epoch=3)):
        await RemoteSandboxes("x").write("s", "f", b"")
    assert machines.actors["sandbox:n1"].fences == [Fence(3, None), Fence(3, 1)]


async def test_a_caller_that_lives_gets_another_lease_when_its_own_has_ended(machines):
    sandboxes = RemoteSandboxes("x")
    await sandboxes.write("s", "f", b"1")
    machines.actors["sandbox:n1"].leases["s"] = 7

    await sandboxes.write("s", "f", b"2")

    assert machines.actors["sandbox:n1"].files["s"] == {"f": b"2"}
    assert sandboxes._homes["s"].lease == 7


async def test_who_was_overtaken_is_refused_and_does_not_try_for_ever(machines):
    actor = machines.actors["sandbox:n1"]

    async def refuse(*_args, **_options):
        raise LeaseEnded("The session was taken over.")

    actor.lease = Method(refuse)
    with pytest.raises(LeaseEnded, match="taken over"):
        await RemoteSandboxes("x").write("s", "f", b"")


async def test_an_actor_that_dies_over_giving_a_lease_is_asked_again(machines):
    machines.actors["sandbox:n1"].dying = 3
    await RemoteSandboxes("x").write("s", "f", b"1")
    assert machines.actors["sandbox:n1"].files["s"] == {"f": b"1"}


async def test_an_actor_that_stays_dead_is_told_as_such(machines, monkeypatch):
    monkeypatch.setattr(sandbox_handles, "AGAIN_S", 0.0)
    monkeypatch.setattr(sandbox_handles, "AGAIN_PAUSE_S", 0.01)
    machines.actors["sandbox:n1"].dying = 3
    with pytest.raises(SandboxUnavailable, match="died") as raised:
        await RemoteSandboxes("x").write("s", "f", b"1")
    assert not isinstance(raised.value, SandboxLost)  # nothing was done


async def test_nobody_knows_what_a_call_did_over_which_the_actor_died(machines):
    sandboxes = RemoteSandboxes("x")
    await sandboxes.write("s", "f", b"1")
    machines.actors["sandbox:n1"].dying = 1

    with pytest.raises(SandboxLost):
        await sandboxes.write("s", "f", b"2")

    assert machines.actors["sandbox:n1"].files["s"] == {"f": b"1"}  # and it was not sent again


async def test_who_gives_up_waiting_for_a_place_says_so(machines, until):
    actor = machines.actors["sandbox:n1"]
    actor.hangs = True
    call = asyncio.create_task(RemoteSandboxes("x").write("s", "f", b""))
    await until(lambda: actor.fences)

    call.cancel()
    await asyncio.wait({call})

    assert len(actor.stopped) == 1


def test_what_is_called_for_a_lease_is_fenced_in_the_actor():
    """Every file operation is; commands go through `run`, and the others ask for no sandbox of the session's own."""
    methods = {name for name in vars(Sandboxes) if not name.startswith("_")}
    files = methods - {"shell", "python", "holds", "copy", "interrupt", "release", "status"}
    actor = SandboxActor.__ray_metadata__.modified_class
    assert "write" in files
    assert [name for name in sorted(files) if "fence" not in inspect.signature(getattr(actor, name)).parameters] == []
