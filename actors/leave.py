"""Until when a host may bring a session into memory for a call, in the time of the host.

A call that nobody waits for any more cannot be taken back. A host that stood still carries it out when it goes on,
and would take the session from where it was sent meanwhile. So each call says until when it may do that, by the wall
clock, as that is the only one that two machines share.

Assumption: while a call is under way the clocks of two machines go equally fast. They need not show the same: a host
that says a call came too late adds what its clock shows, and the caller, who still waits, counts in the host's time
from then on. A host whose clock is behind lets old calls in for as much longer; then, as before, the journal's epoch
sees to it that only one of two hosts writes.
"""

from .core.clock import Clock
from .core.errors import NotHere

SLACK_S = 2.0
"""Clocks that differ by less cost no refusal."""


class Leaves:
    """What a caller knows of the clocks of hosts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_s: dict[str, float] = {}

    def until(self, host: str, timeout_s: float) -> float:
        """For a call to that host that is waited for so long from now: seconds since 1970."""
        return self._clock.now().timestamp() + self._ahead_s.get(host, 0.0) + timeout_s + SLACK_S

    def learn(self, host: str, error: BaseException) -> None:
        """From the refusal of a host that a call came too late for."""
        if isinstance(error, NotHere) and "clock" in error.details:
            self._ahead_s[host] = error.details["clock"] - self._clock.now().timestamp()


def check_leave(until: float | None, clock: Clock, session_id: str) -> bool:
    """Whether a call may bring the session into memory; None says that it may not.

    Raises `NotHere` for one that came too late.
    """
    if until is None:
        return False
    if (now := clock.now().timestamp()) > until:
        raise NotHere(session_id=session_id, clock=now)
    return True
