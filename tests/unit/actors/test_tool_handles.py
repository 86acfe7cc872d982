"""Where a session's sandbox is, as processes know it that the session visits in turn."""

import pytest

from actors import tool_handles
from actors.tool_handles import RemoteSandboxes


class Method:
    def __init__(self, function):
        self.remote = function


class Actor:
    """A sandbox actor: workspaces by session."""

    def __init__(self):
        self.files = {}
        self.interrupted = []
        self.holds = Method(self._holds)
        self.write = Method(self._write)
        self.interrupt = Method(self._interrupt)

    async def _holds(self, session_id):
        return session_id in self.files

    async def _write(self, session_id, path, data):
        self.files.setdefault(session_id, {})[path] = data

    async def _interrupt(self, session_id):
        self.interrupted.append(session_id)


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


@pytest.fixture
def machines(monkeypatch):
    machines = Machines()
    monkeypatch.setattr(tool_handles, "Register", lambda _namespace: machines)
    monkeypatch.setattr(tool_handles, "_own_node", lambda: machines.here)
    return machines


async def test_a_process_to_which_a_session_comes_back_finds_the_sandbox_it_has_now(machines, monkeypatch):
    monkeypatch.setattr(tool_handles, "HOME_S", 0.0)
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
    monkeypatch.setattr(tool_handles, "HOMES_MAX", 3)
    sandboxes = RemoteSandboxes("x")
    for number in range(10):
        await sandboxes.write(f"s{number}", "f", b"")
    assert list(sandboxes._homes) == ["s7", "s8", "s9"]


async def test_every_actor_is_told_to_interrupt(machines):
    await RemoteSandboxes("x").interrupt("s")
    assert [actor.interrupted for actor in machines.actors.values()] == [["s"], ["s"]]
