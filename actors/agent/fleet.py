"""The host processes as the directory handles them, and what it knows of each."""

from dataclasses import dataclass, field
from typing import Protocol

from .host import HostStatus

ARRIVE_S = 5.0
"""A session that was sent to a host counts as there for so long, whatever the host says."""


class Fleet(Protocol):
    """The host processes. Every call has a deadline of its own, but for `ended`."""

    async def names(self) -> tuple[str, ...]:
        """Hosts that exist; those that did when it was last known, where nobody can say."""
        ...

    async def nodes(self) -> int:
        """Machines that can take hosts, less those that are about to leave. Raises `UnavailableError`."""
        ...

    async def leaving(self) -> dict[str, float]:
        """Hosts on machines that are about to leave, and the seconds until then."""
        ...

    async def start(self) -> str:
        """A new host, ready. Raises `AtCapacity` when no machine has room."""
        ...

    async def status(self, name: str) -> HostStatus | None:
        """None when it does not answer in time. Raises `SessionLost` when its process is gone."""
        ...

    async def ended(self, name: str) -> None:
        """Return when the process of the host is gone. One that only stands still has not gone."""
        ...

    async def wake(self, name: str, session_id: str) -> None:
        """Activate a session there. Raises what the host raises."""
        ...

    async def retire(self, name: str, *, within_s: float) -> None:
        """Let its turns end until shortly before that time is up, then end it."""
        ...

    async def stop(self, name: str) -> None:
        """End an empty host."""
        ...


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """For people: sessions by host."""

    hosts: dict[str, int]
    silent: tuple[str, ...]
    sessions: int
    leaving: tuple[str, ...] = ()


@dataclass(slots=True)
class KnownHost:
    """What the directory knows of a host. Times are of the monotonic clock."""

    sessions: set[str] = field(default_factory=set[str])
    coming: dict[str, float] = field(default_factory=dict[str, float])
    """Those of `sessions` that were sent there and have not been seen, and how long they count as there."""
    silent_since: float | None = None
    draining: bool = False
    leaving: bool = False
    used: bool = False

    @property
    def open(self) -> bool:
        """It takes sessions that it does not have."""
        return self.silent_since is None and not self.draining and not self.leaving

    def has(self, session_id: str) -> bool:
        """It answered last, and had the session."""
        return self.silent_since is None and session_id in self.sessions and session_id not in self.coming

    def expect(self, session_id: str, *, now: float) -> None:
        self.sessions.add(session_id)
        self.coming[session_id] = now + ARRIVE_S
        self.used = True

    def drop(self, session_id: str) -> None:
        self.sessions.discard(session_id)
        self.coming.pop(session_id, None)

    def answered(self, resident: set[str], *, draining: bool, now: float) -> None:
        self.silent_since, self.draining = None, draining
        self.coming = {s: until for s, until in self.coming.items() if until > now and s not in resident}
        self.sessions = {*resident, *self.coming}
        self.used = self.used or bool(self.sessions)

    def missed(self, *, now: float) -> None:
        if self.silent_since is None:
            self.silent_since = now

    def lose(self, *, now: float) -> None:
        """Nothing runs there any more, or nothing that is waited for."""
        self.missed(now=now)
        self.sessions.clear()
        self.coming.clear()
