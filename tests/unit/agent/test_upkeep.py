"""What the directory's process does for sessions that nobody uses."""

from datetime import datetime, timedelta

import pytest

from actors.agent.upkeep import TRIM_EVERY_S, TRIMMED_AT_ONCE, Upkeep
from actors.core.errors import SessionLost
from actors.testing import FakeClock


class Overdue:
    """A journal of which only what is due and too old is asked."""

    def __init__(self) -> None:
        self.sessions: tuple[str, ...] = ()
        self.asked: list[datetime] = []
        self.trims: list[datetime] = []
        self.too_old = 0

    async def due(self, now: datetime, *, limit: int) -> tuple[str, ...]:
        self.asked.append(now)
        return self.sessions[:limit]

    async def trim(self, before: datetime, *, limit: int) -> int:
        self.trims.append(before)
        trimmed, self.too_old = min(self.too_old, limit), max(0, self.too_old - limit)
        return trimmed


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def journal() -> Overdue:
    return Overdue()


async def test_every_session_that_is_due_is_woken_although_one_cannot_be(journal, clock):
    woken = []

    async def wake(session_id: str) -> None:
        woken.append(session_id)
        if session_id == "bad":
            raise SessionLost

    journal.sessions = ("bad", "good")
    await Upkeep(journal, wake, clock=clock, retention_days=None).round()

    assert woken == ["bad", "good"]
    assert journal.asked == [clock.now()]
    assert journal.trims == []


async def test_histories_are_trimmed_now_and_then_and_at_once_while_there_is_more(journal, clock):
    async def wake(_: str) -> None:
        raise AssertionError("nothing is due")

    upkeep = Upkeep(journal, wake, clock=clock, retention_days=30)
    journal.too_old = TRIMMED_AT_ONCE + 1
    for _ in range(4):
        await upkeep.round()
    assert journal.trims == [clock.now() - timedelta(days=30)] * 2

    clock.advance(TRIM_EVERY_S)
    await upkeep.round()
    assert len(journal.trims) == 3
