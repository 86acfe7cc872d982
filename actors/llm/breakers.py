"""Circuit breakers: what fails again and again is left alone for a while, and then tried by one call.

A `Breaker` is the state of one thing that may fail; its clock is an argument. `Breakers` holds one for each
credential, account, server or provider, and model, and knows which failures count against which.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from ..core.clock import Clock

_BUCKETS = 10
_MOST_KEYS = 500

Scope: TypeAlias = Literal["credential", "account", "server", "provider", "model"]
Key: TypeAlias = tuple[Scope, str]


class State(StrEnum):
    """What a breaker lets through: everything, nothing, one call at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Of at least `min_calls` calls that ended within `window_s`, a share of `failure_rate` failed. It opens for
    `open_s`, longer by the factor `growth` for each time that it opens again soon, at most `open_max_s`.
    """

    window_s: float = 60.0
    failure_rate: float = 0.5
    min_calls: int = 10
    open_s: float = 5.0
    growth: float = 2.0
    open_max_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Pass:
    """A call that was let through. Its end counts only while the breaker is as it was at its start."""

    era: int
    probe: bool


class Breaker:
    """One breaker. Every `now` is in seconds of one monotonic clock."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._buckets: deque[list[int]] = deque()  # number of the bucket, calls, failures
        self._era = 0  # rises with every change of the state
        self._open_until: float | None = None
        self._probing = False
        self._times_open = 0
        self._closed_at = float("-inf")

    def state(self, now: float) -> State:
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """Seconds until a call may be let through, as far as is known; 0 is now."""
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        return self._policy.open_s if self._probing else 0.0

    def enter(self, now: float) -> Pass:
        """Let a call through; only when `wait_s` is 0. Each has to end in `leave`."""
        assert self.wait_s(now) == 0
        probe = self._open_until is not None
        self._probing = probe
        return Pass(self._era, probe)

    def leave(self, given: Pass, now: float, *, failed: bool | None) -> None:
        """The call ended. `failed` None says nothing of this breaker: it was cancelled, or refused for its own sake."""
        if given.era != self._era:
            return
        if given.probe:
            self._probing = False
            if failed is not None:
                self._open(now) if failed else self._close(now)
        elif failed is not None:
            self._count(now, failed=failed)

    def trip(self, now: float) -> None:
        """Open at once."""
        if self.state(now) is not State.OPEN:
            self._open(now)

    def _count(self, now: float, *, failed: bool) -> None:
        number = int(now / self._policy.window_s * _BUCKETS)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += failed
        while self._buckets[0][0] <= number - _BUCKETS:
            self._buckets.popleft()
        calls = sum(bucket[1] for bucket in self._buckets)
        failures = sum(bucket[2] for bucket in self._buckets)
        if failed and calls >= self._policy.min_calls and failures >= self._policy.failure_rate * calls:
            self._open(now)

    def _open(self, now: float) -> None:
        if self._open_until is None and now - self._closed_at >= self._policy.window_s:
            self._times_open = 0
        # The exponent is bounded, because the power of a breaker that never closes would overflow.
        wait = self._policy.open_s * self._policy.growth ** min(self._times_open, 32)
        self._times_open += 1
        self._open_until = now + min(wait, self._policy.open_max_s)
        self._change()

    def _close(self, now: float) -> None:
        self._open_until = None
        self._closed_at = now
        self._change()

    def _change(self) -> None:
        self._era += 1
        self._probing = False
        self._buckets.clear()


class BreakerOpen(Exception):
    """A call was not let through."""

    def __init__(self, key: Key, retry_after_s: float) -> None:
        super().__init__(f"{key[0]} {key[1]} failed too often")
        self.key = key
        self.retry_after_s = retry_after_s


OnChange: TypeAlias = Callable[[Key, State | None], None]
"""Told the state of a breaker when it may have changed; None when it is forgotten."""


def _ignore(_key: Key, _state: State | None) -> None:
    return


class Breakers:
    """Breakers by key. One that has been closed for long is forgotten when there are too many."""

    def __init__(self, policy: BreakerPolicy, *, clock: Clock, on_change: OnChange = _ignore) -> None:
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._by_key: OrderedDict[Key, Breaker] = OrderedDict()

    def enter(self, *keys: Key) -> dict[Key, Pass]:
        """Let a call through that needs all of them. Raises `BreakerOpen` for the one that takes longest."""
        now = self._clock.monotonic()
        breakers = {key: self._of(key) for key in keys}
        wait_s, key = max(((breaker.wait_s(now), key) for key, breaker in breakers.items()), default=(0.0, None))
        if key is not None and wait_s > 0:
            raise BreakerOpen(key, wait_s)
        passes = {key: breaker.enter(now) for key, breaker in breakers.items()}
        self._tell(passes)
        return passes

    def leave(self, passes: dict[Key, Pass], *, failed: dict[Key, bool]) -> None:
        """The call ended. `failed` says how for the keys that it says something of, in `passes` or not."""
        now = self._clock.monotonic()
        for key, given in passes.items():
            if (breaker := self._by_key.get(key)) is not None:
                breaker.leave(given, now, failed=failed.get(key))
        for key in failed.keys() - passes.keys():
            breaker = self._of(key)
            if breaker.state(now) is State.CLOSED:
                breaker.leave(breaker.enter(now), now, failed=failed[key])
        self._tell({*passes, *failed})

    def trip(self, key: Key) -> None:
        self._of(key).trip(self._clock.monotonic())
        self._tell((key,))

    def not_closed(self, scope: Scope) -> list[Key]:
        """Those of a scope that let through less than everything."""
        return [key for key, state in self.states().items() if key[0] == scope and state is not State.CLOSED]

    def may_enter(self, key: Key) -> bool:
        return self._of(key).wait_s(self._clock.monotonic()) == 0

    def states(self) -> dict[Key, State]:
        now = self._clock.monotonic()
        return {key: breaker.state(now) for key, breaker in self._by_key.items()}

    def _of(self, key: Key) -> Breaker:
        breaker = self._by_key.get(key)
        if breaker is None:
            breaker = self._by_key[key] = Breaker(self._policy)
            if len(self._by_key) > _MOST_KEYS:
                self._forget_one()
        self._by_key.move_to_end(key)
        return breaker

    def _forget_one(self) -> None:
        states = self.states()
        oldest = next((key for key, state in states.items() if state is State.CLOSED), next(iter(states)))
        del self._by_key[oldest]
        self._on_change(oldest, None)

    def _tell(self, keys: "dict[Key, Pass] | set[Key] | tuple[Key, ...]") -> None:
        now = self._clock.monotonic()
        for key in keys:
            if (breaker := self._by_key.get(key)) is not None:
                self._on_change(key, breaker.state(now))
