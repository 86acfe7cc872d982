"""Session actors and a directory as handles see them, without Ray."""

import asyncio
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from actors import handles
from actors.agent.sessions import NewSession, Submit
from actors.core.clock import SystemClock
from actors.core.errors import AtCapacity
from actors.handles import RemoteSessions
from actors.leave import check_leave
from actors.register import NotRegistered


class Host:
    """A session actor. Each call of `submit` is answered by the next of `answers`, the last one again and again.

    An answer is raised when it is an exception, and waited for when it is an event.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.stands_still = False
        self.clock = SystemClock()
        self.submit = SimpleNamespace(remote=self._submit)
        self.watch = SimpleNamespace(remote=self._watch)

    async def _submit(self, command, *, until):
        self.calls.append(check_leave(until, self.clock, command.session_id))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _watch(self, wait_s):
        if self.stands_still:
            await asyncio.Event().wait()
        return "node"


class Cluster:
    """Register and directory in one: it names the first host that the caller has not complained of."""

    def __init__(self, **hosts):
        self.hosts = hosts
        self.asked = []
        self.doubted = []

    async def find(self, name):
        if name not in self.hosts:
            raise NotRegistered(name)
        return self.hosts[name]

    def doubt(self, name):
        self.doubted.append(name)

    async def locate(self, session_id, **told):
        self.asked.append({key: value for key, value in told.items() if value})
        bad = [*self.failed, *told["full"]]
        if (name := next((name for name in self.hosts if name not in bad), None)) is None:
            raise AtCapacity
        return name

    @property
    def failed(self):
        return [asked["failed"] for asked in self.asked if "failed" in asked]


@pytest.fixture
def host():
    return Host


@pytest.fixture
def cluster(monkeypatch):
    """Make one, and the sessions over it. A host is silent after 50 ms, and a call is given up after one second."""
    monkeypatch.setattr(handles, "TRY_S", 0.05)
    monkeypatch.setattr(handles, "KNOCK_S", 0.05)
    monkeypatch.setattr(handles, "RETRY_S", 1.0)

    def make(**hosts):
        cluster, sessions = Cluster(**hosts), RemoteSessions("ours", SystemClock())
        monkeypatch.setattr(sessions, "register", cluster)
        monkeypatch.setattr(sessions, "directory", cluster)
        return cluster, sessions

    return make


@pytest.fixture
def message():
    return Submit("sess_1", "user_1", "msg_1", "turn_1", "hello", new=NewSession("demo"))


@pytest.fixture
def logs():
    with capture_logs() as captured:
        yield captured
