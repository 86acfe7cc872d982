"""Who holds the places of a machine, and who waits for one: first come, first served, and each session once.

A lease is a session's hold on a place. It has a number that only grows, also over restarts of the process, so that a
call which was made for an earlier lease is told from one that may be carried out.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import SandboxUnavailable
from .base import Sandbox

RELEASED = "The session's sandbox was released while it was being made."
CLOSED = "The sandbox host is closed."


@dataclass(slots=True, eq=False)
class Lease:
    """A session's hold on a place, and on the sandbox in it once there is one.

    `turn` guards `sandbox` and `frozen`: of calls that come at once, one makes it or wakes it.
    """

    session_id: str
    number: int
    since_s: float
    used_s: float
    users: int = 0
    sandbox: Sandbox | None = None
    frozen: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True, eq=False)
class _Waiter:
    """A session that waits, and how many of its calls do."""

    granted: asyncio.Future[Lease]
    callers: int = 0


class Leases:
    """At most `places` leases at a time. Belongs to one event loop.

    `make_room` is called when a session has to wait, and may end a lease that nobody needs. `first_number` is larger
    than any number that an earlier process of this machine gave: its start in nanoseconds will do.
    """

    def __init__(
        self,
        *,
        places: int,
        waiting_max: int,
        wait_s: float,
        clock: Clock,
        first_number: int,
        make_room: Callable[[], None],
    ) -> None:
        self._places = places
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._clock = clock
        self._numbers = itertools.count(first_number)
        self._make_room = make_room
        self._held: dict[str, Lease] = {}
        self._ending: dict[str, asyncio.Future[None]] = {}
        """Sessions whose lease has ended and whose sandbox is still there: it keeps its place until it is not."""
        self._waiting: dict[str, _Waiter] = {}
        """In the order in which they came."""
        self._closed = False

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._held

    @property
    def held(self) -> tuple[Lease, ...]:
        return tuple(self._held.values())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def wanting(self) -> int:
        """Sessions that wait and for which no lease is being ended yet."""
        return len(self._waiting) - len(self._ending)

    def get(self, session_id: str) -> Lease | None:
        return self._held.get(session_id)

    async def enter(self, session_id: str) -> Lease:
        """The session's lease, a new one where it has none. Whoever got it must `leave` it.

        Raises SandboxUnavailable when too many wait, or when no place became free in time.
        """
        while (ending := self._ending.get(session_id)) is not None:
            await asyncio.wait({ending})
        if self._closed:
            raise SandboxUnavailable(CLOSED)
        lease = self._held.get(session_id)
        if lease is None and self._is_room():
            lease = self._grant(session_id)
        if lease is None:
            return await self._wait(session_id)
        lease.users += 1
        return lease

    def leave(self, lease: Lease) -> None:
        lease.users -= 1
        lease.used_s = self._clock.monotonic()
        # A session that has nothing, because none could be made or it was lost, must not keep a place.
        if lease.sandbox is None and not lease.users and self._held.get(lease.session_id) is lease:
            del self._held[lease.session_id]
            self._pass_on()

    def end(self, lease: Lease) -> Callable[[], None]:
        """End a lease that is held. Its place is free, and its session may have another, once the answer is called."""
        del self._held[lease.session_id]
        ended = self._ending[lease.session_id] = asyncio.get_running_loop().create_future()

        def free() -> None:
            del self._ending[lease.session_id]
            ended.set_result(None)
            self._pass_on()

        return free

    def take_back(self, lease: Lease) -> None:
        """An end that is not to take place after all. It is not tried again before another has been due."""
        self._held[lease.session_id] = lease
        lease.since_s = lease.used_s = self._clock.monotonic()

    async def ended(self, session_id: str, *, within_s: float) -> None:
        """Wait until the session's lease has ended, if it is being ended."""
        if (ending := self._ending.get(session_id)) is not None:
            await asyncio.wait({ending}, timeout=within_s)

    def withdraw(self, session_id: str) -> None:
        """The session waits no longer."""
        if (waiter := self._waiting.pop(session_id, None)) is not None:
            waiter.granted.set_exception(SandboxUnavailable(RELEASED))
            telemetry.SANDBOX_WAITING.set(len(self._waiting))

    def close(self) -> None:
        """No new lease is given, and nobody waits any more."""
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.granted.set_exception(SandboxUnavailable(CLOSED))
        telemetry.SANDBOX_WAITING.set(0)

    def _is_room(self) -> bool:
        return len(self._held) + len(self._ending) < self._places

    def _grant(self, session_id: str) -> Lease:
        now = self._clock.monotonic()
        lease = self._held[session_id] = Lease(session_id, next(self._numbers), now, now)
        telemetry.SANDBOX_LEASED.set(len(self._held))
        return lease

    def _pass_on(self) -> None:
        """Give what is free to those who came first."""
        while self._waiting and self._is_room():
            session_id, waiter = next(iter(self._waiting.items()))
            del self._waiting[session_id]
            lease = self._grant(session_id)
            lease.users = waiter.callers
            waiter.granted.set_result(lease)
        telemetry.SANDBOX_LEASED.set(len(self._held))
        telemetry.SANDBOX_WAITING.set(len(self._waiting))

    async def _wait(self, session_id: str) -> Lease:
        waiter = self._waiting.get(session_id) or self._queue(session_id)
        waiter.callers += 1
        timer = asyncio.ensure_future(self._clock.sleep(self._wait_s))
        try:
            await asyncio.wait({waiter.granted, timer}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_up(session_id, waiter)
            raise
        finally:
            timer.cancel()
        if waiter.granted.done():
            return waiter.granted.result()
        position = 1 + list(self._waiting).index(session_id)
        self._give_up(session_id, waiter)
        raise SandboxUnavailable(
            f"All {self._places} sandboxes of this machine are in use, and none became free within {self._wait_s:g} s; "
            f"the session was number {position} of those that wait. Try again later, or raise sandbox_max_leased or "
            "sandbox_wait_s.",
            max_leased=self._places,
            position=position,
        )

    def _queue(self, session_id: str) -> _Waiter:
        if len(self._waiting) >= self._waiting_max:
            raise SandboxUnavailable(
                f"All {self._places} sandboxes of this machine are in use, and {len(self._waiting)} sessions wait for "
                "one, which is as many as may. Try again later, or raise sandbox_max_leased or sandbox_max_waiting.",
                max_leased=self._places,
                position=len(self._waiting) + 1,
            )
        waiter = self._waiting[session_id] = _Waiter(asyncio.get_running_loop().create_future())
        telemetry.SANDBOX_WAITING.set(len(self._waiting))
        self._make_room()
        return waiter

    def _give_up(self, session_id: str, waiter: _Waiter) -> None:
        if waiter.granted.done():
            if waiter.granted.exception() is None:
                self.leave(waiter.granted.result())  # it came in the same moment
            return
        waiter.callers -= 1
        if not waiter.callers:
            del self._waiting[session_id]
            telemetry.SANDBOX_WAITING.set(len(self._waiting))
