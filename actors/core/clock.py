"""Time as a parameter: nothing else in Greenroom reads the wall clock."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where code gets the time from. Tests pass `actors.testing.FakeClock`."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least so many seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(moment: datetime) -> str:
    """`2026-11-30T08:15:02.123456Z`: the one form in which times leave Greenroom."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
