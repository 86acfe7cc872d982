"""Three clocks, on a clock that stands still."""

import asyncio

import pytest

from actors.llm.deadlines import DeadlinePassed, StreamDeadline, Timeouts
from actors.testing import FakeClock

TIMEOUTS = Timeouts(first_token_s=60, idle_s=30, total_s=100)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def deadline(clock):
    made = StreamDeadline(clock, TIMEOUTS)
    yield made
    made.close()


async def wait_for_ever(deadline: StreamDeadline) -> str:
    try:
        await deadline.wait(asyncio.Event().wait())
    except DeadlinePassed as passed:
        return str(passed)
    return "went on"


async def test_the_first_token_has_its_own_time(clock: FakeClock, deadline):
    waiting = asyncio.create_task(wait_for_ever(deadline))
    await settle()
    clock.advance(59.5)
    await settle()
    assert not waiting.done()
    clock.advance(0.5)
    assert await waiting == "no token for 60 s"


async def test_waits_that_bring_no_token_do_not_reset_it(clock: FakeClock, deadline):
    for _ in range(5):
        await deadline.wait(asyncio.sleep(0))
        clock.advance(11)
        await settle()
    waiting = asyncio.create_task(wait_for_ever(deadline))
    await settle()
    clock.advance(5)
    assert await waiting == "no token for 60 s"


async def test_a_token_starts_the_shorter_time_of_silence(clock: FakeClock, deadline):
    await deadline.wait(asyncio.sleep(0))
    clock.advance(10)
    deadline.token()
    waiting = asyncio.create_task(wait_for_ever(deadline))
    await settle()
    clock.advance(29.5)
    await settle()
    assert not waiting.done()
    clock.advance(0.5)
    assert await waiting == "no further token for 30 s"


async def test_a_slow_reader_does_not_use_up_the_time_of_silence(clock: FakeClock, deadline):
    await deadline.wait(asyncio.sleep(0))
    deadline.token()
    clock.advance(45)
    await settle()
    assert await deadline.wait(asyncio.sleep(0, "in time")) == "in time"


async def test_the_whole_call_has_an_end_whatever_comes(clock: FakeClock, deadline):
    for _ in range(9):
        deadline.token()
        await deadline.wait(asyncio.sleep(0))
        clock.advance(10)
        await settle()
    deadline.token()
    waiting = asyncio.create_task(wait_for_ever(deadline))
    await settle()
    clock.advance(10)
    assert await waiting == "no whole answer within 100 s"


async def test_a_cancelled_wait_is_cancelled_and_not_late(clock: FakeClock, deadline):
    waiting = asyncio.create_task(wait_for_ever(deadline))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancel_that_meets_the_deadline_wins(clock: FakeClock, deadline):
    waiting = asyncio.create_task(wait_for_ever(deadline))
    await settle()
    clock.advance(60)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_stops_the_watch(clock: FakeClock, deadline):
    await deadline.wait(asyncio.sleep(0))
    await clock.sleeping()
    deadline.close()
    await settle()
    assert clock.sleeper_count == 0
