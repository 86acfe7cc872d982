"""Those who find no room in a bucket wait in line for what is held there now, first come, first served.

Only the first of a line asks the ledger again: when something is settled by this process, and now and then, because
others settle too. So a crowd does not keep away those who settle, and nobody is overtaken by who comes later.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from ..core.clock import Clock
from .base import Admission, Denied, Hold, Wanted

WAIT_S = 2.0
"""So long one waits while nothing is settled, before the reservation is refused."""

LONGEST_S = 10.0
"""So long one waits at most, while the line moves."""

_FIRST_POLL_S, _LONGEST_POLL_S = 0.02, 0.25

_LAST_TRIES_AT_ONCE = 8
"""Of those whose time is over so many ask for the last time at once."""


class _Line:
    """Who waits for room in one bucket."""

    def __init__(self, moved_at: float) -> None:
        self.first = asyncio.Lock()  # held by the first of the line; asyncio hands it on in order
        self.freed = asyncio.Event()
        self.moved_at = moved_at
        self.length = 0


class Lines:
    """An `Admission` in front of another: its `reserve` waits. One for a process."""

    def __init__(self, ledger: Admission, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._jitter = jitter
        self._lines: dict[str, _Line] = {}
        self._last_tries = asyncio.Semaphore(_LAST_TRIES_AT_ONCE)

    async def reserve(self, wanted: Wanted) -> Hold | Denied:
        """As `Admission.reserve`, but `Denied` only when there is no room for good, or none came in time."""
        bucket = next((b.name for b in wanted.buckets if b.name in self._lines), None) if wanted.amount else None
        if bucket is None:
            made = await self._ledger.reserve(wanted)
            if isinstance(made, Hold) or not made.may_pass:
                return made
            bucket = made.bucket
        line = self._lines.setdefault(bucket, _Line(self._clock.monotonic()))
        line.length += 1
        try:
            return await self._wait(wanted, line)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[bucket]

    async def dispatch(self, hold: Hold) -> Denied | None:
        return await self._ledger.dispatch(hold)

    async def release(self, hold: Hold) -> Hold:
        after = await self._ledger.release(hold)
        self._free(hold)
        return after

    async def settle(self, hold: Hold, cost: int) -> Hold:
        after = await self._ledger.settle(hold, cost)
        self._free(hold)
        return after

    async def expire(self, hold: Hold, *, estimate: int | None = None) -> Hold:
        after = await self._ledger.expire(hold, estimate=estimate)
        self._free(hold)
        return after

    def _free(self, hold: Hold) -> None:
        for bucket in hold.buckets:
            if (line := self._lines.get(bucket.name)) is not None:
                line.moved_at = self._clock.monotonic()
                line.freed.set()

    async def _wait(self, wanted: Wanted, line: _Line) -> Hold | Denied:
        arrived = self._clock.monotonic()
        if not await self._comes_first(line, arrived):
            async with self._last_tries:
                return await self._ledger.reserve(wanted)
        try:
            return await self._insist(wanted, line, arrived)
        finally:
            line.first.release()

    async def _comes_first(self, line: _Line, arrived: float) -> bool:
        turn = asyncio.ensure_future(line.first.acquire())
        try:
            while not turn.done() and (left_s := self._left_s(line, arrived)) > 0:
                await self._either(turn, left_s)
        except BaseException:
            if not turn.cancel():  # it came in the moment of the cancel, and nobody will use it
                line.first.release()
            raise
        return not turn.cancel()

    async def _insist(self, wanted: Wanted, line: _Line, arrived: float) -> Hold | Denied:
        """Ask until there is room, none for good, or no time."""
        poll_s = _FIRST_POLL_S
        while True:
            line.freed.clear()
            made = await self._ledger.reserve(wanted)
            left_s = self._left_s(line, arrived)
            if isinstance(made, Hold) or not made.may_pass or left_s <= 0:
                return made
            freed = asyncio.ensure_future(line.freed.wait())
            try:
                await self._either(freed, min(left_s, poll_s * (0.5 + self._jitter() / 2)))
                poll_s = _FIRST_POLL_S if freed.done() else min(poll_s * 2, _LONGEST_POLL_S)
            finally:
                freed.cancel()

    def _left_s(self, line: _Line, arrived: float) -> float:
        return min(max(arrived, line.moved_at) + WAIT_S, arrived + LONGEST_S) - self._clock.monotonic()

    async def _either(self, awaited: "asyncio.Future[Any]", seconds: float) -> None:
        """Until it is done, or so much time has passed."""
        alarm = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait([awaited, alarm], return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
