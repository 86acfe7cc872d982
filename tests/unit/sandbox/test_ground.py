"""What all sandboxes of a backend share is made once, and a failure is told and tried again."""

import asyncio
import threading

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import Capability, Level, Missing
from actors.sandbox.ground import Ground
from actors.sandbox.host_users import FIRST_UID, UID_COUNT, HostUsers
from actors.sandbox.rootfs import CannotBuild
from actors.sandbox.unavailable import reported, unavailable


async def test_it_is_prepared_once_for_all_who_come_at_once():
    begun, go = threading.Event(), threading.Event()
    made = []

    def prepare():
        begun.set()
        assert go.wait(10)
        made.append(object())
        return made[-1]

    ground = Ground(prepare)
    waiting = [asyncio.create_task(ground.get()) for _ in range(3)]
    await asyncio.to_thread(begun.wait, 10)
    go.set()

    assert {await task for task in waiting} == {*made}
    assert len(made) == 1


async def test_what_is_missing_is_told_and_the_next_one_tries_again():
    answers = [CannotBuild("bread", "bake it"), "ground"]

    def prepare():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ground = Ground(prepare)
    with pytest.raises(SandboxUnavailable, match="bread: bake it"):
        await ground.get()
    assert await ground.get() == "ground"


async def test_what_was_forgotten_is_made_anew_and_a_closed_one_makes_nothing():
    numbers = iter(range(3))
    ground = Ground(lambda: next(numbers))

    assert await ground.get() == 0
    ground.forget()
    assert await ground.get() == 1
    assert ground.close() == 1
    with pytest.raises(SandboxUnavailable, match="closed"):
        await ground.get()


async def test_a_probe_reports_whatever_it_meets():
    async def found():
        return Capability("x", Level.NAMESPACE)

    async def lacks():
        raise unavailable(Missing("bread", "bake it"))

    async def breaks():
        raise ZeroDivisionError

    assert await reported("x", found) == Capability("x", Level.NAMESPACE)
    assert await reported("x", lacks) == Capability("x", Level.NONE, missing=(Missing("bread", "bake it"),))
    broken = await reported("x", breaks)
    assert broken.level is Level.NONE
    assert "ZeroDivisionError" in broken.missing[0].fix


def test_users_come_in_turn_and_begin_again_at_the_end(monkeypatch):
    monkeypatch.setattr("actors.sandbox.host_users.secrets.randbelow", lambda count: count - 2)
    users = HostUsers()

    assert [users.take() for _ in range(3)] == [FIRST_UID + UID_COUNT - 1, FIRST_UID, FIRST_UID + 1]
