"""A machine of sandboxes has no way to the stores: what it has to write, one of the session actors writes."""

import asyncio

import pytest

from actors import egress_handles
from actors.core.errors import SessionNotFound, StoreUnavailable
from actors.egress_handles import RemoteConnectionLog
from actors.ray_errors import ActorGone
from actors.register import HeadAway
from actors.sandbox.egress_base import Attempt

ATTEMPT = Attempt("example.org", 443, "allowed", "192.0.2.9")


class Method:
    def __init__(self, function):
        self.remote = function


class Writer:
    """A session actor. It writes, or does what it is told in place of it."""

    def __init__(self):
        self.written = []
        self.failure = None
        self.hangs = False
        self.record_connection = Method(self._record)

    async def _record(self, session_id, attempt):
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        self.written.append((session_id, attempt))


class Register:
    def __init__(self):
        self.actors = {f"session:{number}": Writer() for number in range(4)}
        self.doubted = []
        self.away = False
        self.listed = 0

    def has_met(self, name):
        return name in self.actors and name not in self.doubted

    async def find(self, name):
        return self.actors[name]

    async def all(self, _prefix):
        self.listed += 1
        if self.away:
            raise HeadAway("the head is away")
        return self.actors

    def doubt(self, name):
        self.doubted.append(name)


@pytest.fixture
def register(monkeypatch):
    made = Register()
    monkeypatch.setattr(egress_handles, "Register", lambda _namespace: made)
    monkeypatch.setattr(egress_handles, "RECORD_S", 0.05)
    return made


@pytest.fixture
def log(register):
    return RemoteConnectionLog("ours")


async def test_who_wrote_last_is_asked_first(log, register):
    await log.record("s", ATTEMPT)
    await log.record("t", ATTEMPT)
    assert register.actors["session:0"].written == [("s", ATTEMPT), ("t", ATTEMPT)]
    assert register.listed == 1
    register.away = True
    await log.record("s", ATTEMPT)


@pytest.mark.parametrize("fault", ["gone", "silent"])
async def test_another_writes_where_one_does_not(log, register, fault):
    await log.record("s", ATTEMPT)
    first, second = register.actors["session:0"], register.actors["session:1"]
    first.failure, first.hangs = (ActorGone("it ended"), False) if fault == "gone" else (None, True)
    await log.record("s", ATTEMPT)
    assert second.written == [("s", ATTEMPT)]
    assert register.doubted == ["session:0"]


async def test_where_none_writes_it_is_said(log, register):
    for writer in register.actors.values():
        writer.hangs = True
    with pytest.raises(StoreUnavailable, match="session:1 did not write"):
        await log.record("s", ATTEMPT)
    register.away = True
    with pytest.raises(StoreUnavailable, match="no session actor can be found"):
        await log.record("s", ATTEMPT)


async def test_an_answer_of_the_store_is_the_answer(log, register):
    register.actors["session:0"].failure = SessionNotFound(session_id="s")
    with pytest.raises(SessionNotFound):
        await log.record("s", ATTEMPT)
    assert register.actors["session:1"].written == []
