"""A clock that moves only when a test says so."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

_REAL_DEADLINE_S = 5.0


class FakeClock:
    """A `Clock` whose time stands still until `advance`.

    `advance` wakes sleepers in the order of their due times; they run when the test next awaits
    something. A task that must be asleep first is waited for with `sleeping`.
    """

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = now
        self._elapsed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), waker))
        self._changed.set()
        await waker

    def advance(self, seconds: float) -> None:
        """Move time forward and wake every sleeper that is due by then, the earliest first."""
        if seconds < 0:
            raise ValueError("time does not go backwards")
        self._elapsed_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
            _, _, waker = heapq.heappop(self._sleepers)
            if not waker.done():
                waker.set_result(None)

    @property
    def sleeper_count(self) -> int:
        """Tasks that are asleep now; those that were cancelled do not count."""
        return sum(not waker.done() for _, _, waker in self._sleepers)

    async def sleeping(self, count: int = 1) -> None:
        """Wait until at least `count` tasks are asleep. Raises TimeoutError after 5 real seconds."""
        async with asyncio.timeout(_REAL_DEADLINE_S):
            while self.sleeper_count < count:
                self._changed.clear()
                await self._changed.wait()
