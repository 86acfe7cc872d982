"""The three clocks of a streamed answer: first token, silence between tokens, the whole call.

HTTP's read timeout cannot do this, because it starts again with every comment that a server sends to
keep the connection alive.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from ..core.clock import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `total_s` covers one call with all its attempts and the waits between them."""

    connect_s: float = 10.0
    first_token_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 240.0


class DeadlinePassed(Exception):
    """The server kept silent for too long."""


class StreamDeadline:
    """Ends a wait when its deadline passes.

    One watching task per stream sleeps on the clock and cancels the wait, which is cheaper than a timer
    per read. It looks up at least once per `idle_s`, so that a deadline which moved is never missed.
    """

    def __init__(self, clock: Clock, timeouts: Timeouts) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._period_s = min(timeouts.first_token_s, timeouts.idle_s)
        self._end = clock.monotonic() + timeouts.total_s
        self._at = self._end
        self._why = ""
        self._token_came = False
        self._passed = False
        self._waiter: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None
        self.begin()

    @property
    def left_s(self) -> float:
        """What is left of the whole call."""
        return self._end - self._clock.monotonic()

    def begin(self) -> None:
        """An attempt starts: the clock of the first token runs."""
        self._token_came = False
        self._set(self._timeouts.first_token_s, "no token")

    def token(self) -> None:
        """Something of the answer came: the next wait has `idle_s`, however long the reader now takes."""
        self._token_came = True

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """The result of `awaitable`. Raises `DeadlinePassed`, after cancelling it."""
        if self._token_came:
            self._token_came = False
            self._set(self._timeouts.idle_s, "no further token")
        if self._watch is None or self._watch.done():
            # Not in a TaskGroup: the caller is a generator, and a group must not span its yields.
            self._watch = asyncio.create_task(self._cancel_late_waiter())
        waiter = asyncio.current_task()
        assert waiter is not None
        cancelling = waiter.cancelling()
        self._waiter = waiter
        try:
            return await awaitable
        except asyncio.CancelledError:
            if self._passed and waiter.uncancel() <= cancelling:
                raise DeadlinePassed(self._why) from None
            raise
        finally:
            self._waiter = None
            self._passed = False

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()

    def _set(self, seconds: float, why: str) -> None:
        at = self._clock.monotonic() + seconds
        if at < self._end:
            self._at, self._why = at, f"{why} for {seconds:g} s"
        else:
            self._at, self._why = self._end, f"no whole answer within {self._timeouts.total_s:g} s"

    async def _cancel_late_waiter(self) -> None:
        while (left := self._at - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(left, self._period_s))
        if self._waiter is not None:
            self._passed = True
            self._waiter.cancel()
