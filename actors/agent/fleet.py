"""The host processes as the directory handles them, and what it knows of each."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from .host import HostStatus

ARRIVE_S = 5.0
"""A session that was sent to a host counts as there for so long, whatever the host says."""


class Fleet(Protocol):
    """The host processes. Every call has a deadline of its own, but for `ended`."""

    async def names(self) -> tuple[str, ...]:
        """Hosts that exist; those that did when it was last known, where nobody can say."""
        ...

    async def machines(self) -> dict[str, frozenset[str]]:
        """Machines that can take hosts, less those that are about to leave, and the hosts that are known to be there.

        Raises `UnavailableError`.
        """
        ...

    async def leaving(self) -> dict[str, float]:
        """Hosts on machines that are about to leave, and the seconds until then."""
        ...

    async def start(self) -> str:
        """A new host, ready, on the machine with the fewest. Raises `AtCapacity` when none has room."""
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
    impaired: tuple[str, ...] = ()
    """Parts of the models that some host leaves alone for a while, as `scope:name`."""


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
    impaired: tuple[str, ...] = ()

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


Hosts: TypeAlias = dict[str, KnownHost]


def staying(hosts: Hosts, among: Collection[str] | None = None) -> int:
    """How many will stay, of those named or of all."""
    return sum(1 for name, host in hosts.items() if not host.leaving and (among is None or name in among))


def empty(hosts: Hosts) -> list[str]:
    """Those that could take a session and have none."""
    return [name for name, host in hosts.items() if host.open and not host.sessions]


@dataclass(frozen=True, slots=True)
class Warm:
    """How many hosts are kept ready: so many on each machine, or so many for each that nobody has used yet."""

    per_machine: int
    dedicated: bool
    """A host for each session: one that was used is not used again."""

    def spare(self, name: str, hosts: Hosts, machines: dict[str, frozenset[str]]) -> bool:
        """Whether an empty host is not needed."""
        if self.dedicated:
            return len(empty(hosts)) > self.per_machine * len(machines) or hosts[name].used
        there = next((names for names in machines.values() if name in names), None)
        if there is None:
            return staying(hosts) > self.per_machine * len(machines)
        return staying(hosts, there) > self.per_machine

    def missing(self, hosts: Hosts, machines: dict[str, frozenset[str]]) -> int:
        """How many have to be started."""
        if self.dedicated:
            return self.per_machine * len(machines) - len(empty(hosts))
        # Those that are nowhere yet may turn out to be where one is missing.
        nowhere = staying(hosts, set(hosts).difference(*machines.values()))
        return sum(max(0, self.per_machine - staying(hosts, there)) for there in machines.values()) - nowhere
