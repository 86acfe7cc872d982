"""Which host serves which session: spread first, then share.

A cache of the truth. The truth is the journal (who may write) and the hosts themselves (what is
resident): the directory is rebuilt by asking them, and a wrong answer of it costs a retry, never a write.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ..core.errors import AtCapacity, GreenroomError, SessionNotFound
from .host import HostStatus
from .journal import Journal

PLACES_REMEMBERED = 200_000
UNFINISHED_LOOKED_AT = 100_000
WAKES_AT_ONCE = 100
ROUNDS_TO_ARRIVE = 5
"""A session that was sent to a host counts as there for so many rounds of care, whatever the host says."""


class Fleet(Protocol):
    """The host processes, as the directory handles them. Every call has a deadline of its own."""

    async def names(self) -> tuple[str, ...]:
        """Hosts that exist."""
        ...

    async def nodes(self) -> int:
        """Machines that can take hosts."""
        ...

    async def start(self) -> str:
        """A new host, ready. Raises `AtCapacity` when no machine has room."""
        ...

    async def status(self, name: str) -> HostStatus | None:
        """None when it does not answer."""
        ...

    async def wake(self, name: str, session_id: str) -> None:
        """Activate a session there. Raises what the host raises."""
        ...

    async def stop(self, name: str) -> None:
        """End an empty host."""
        ...


@dataclass(slots=True)
class _Host:
    sessions: set[str] = field(default_factory=set[str])
    coming: dict[str, int] = field(default_factory=dict[str, int])
    """Rounds that are left for sessions which were sent there and have not been seen."""
    answers: bool = True
    used: bool = False


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """For people: sessions by host."""

    hosts: dict[str, int]
    silent: tuple[str, ...]
    sessions: int


class Directory:
    """Places sessions. Belongs to one event loop."""

    def __init__(
        self, fleet: Fleet, journal: Journal, *, warm_per_node: int, max_per_node: int, sessions_per_host: int
    ) -> None:
        self._fleet = fleet
        self._journal = journal
        self._warm_per_node = warm_per_node
        self._max_per_node = max_per_node
        self._sessions_per_host = sessions_per_host
        self._hosts: dict[str, _Host] = {}
        self._places: OrderedDict[str, str] = OrderedDict()
        # One host is started at a time: the machine starts no two faster than one after the other.
        self._growing = asyncio.Lock()
        self._placing: dict[str, asyncio.Task[str]] = {}
        self._logger = structlog.get_logger("greenroom.directory")

    async def locate(self, session_id: str, *, failed: str | None = None, new: bool = False) -> str:
        """The host of a session. `failed` names a host that did not answer the caller.

        Raises `SessionNotFound` for one that is neither placed, nor in the journal, nor `new`: it would take a
        process for nothing.
        """
        if failed is not None and (host := self._hosts.get(failed)) is not None:
            host.answers = False
        if (name := self._known_place(session_id)) is not None:
            return name
        placing = self._placing.get(session_id)
        if placing is None:
            # Shared: two answers for one session would make two hosts take it from each other.
            placing = self._placing[session_id] = asyncio.create_task(self._place(session_id, new=new))
            placing.add_done_callback(lambda task: self._placed(session_id, task))
        return await asyncio.shield(placing)

    def _known_place(self, session_id: str) -> str | None:
        name = self._places.get(session_id)
        if name is None or name not in self._hosts or not self._hosts[name].answers:
            return None
        self._places.move_to_end(session_id)
        return name

    def _placed(self, session_id: str, task: "asyncio.Task[str]") -> None:
        del self._placing[session_id]
        if not task.cancelled():
            task.exception()  # retrieved: those who asked may all have gone

    async def _place(self, session_id: str, *, new: bool) -> str:
        if not new and not await self._journal.exists(session_id):
            raise SessionNotFound(session_id=session_id)
        name = self._least_loaded()
        if name is None:
            name = await self._grow(session_id)
        self._assign(session_id, name)
        return name

    def _assign(self, session_id: str, name: str) -> None:
        if (before := self._places.get(session_id)) is not None and before in self._hosts:
            self._hosts[before].sessions.discard(session_id)
            self._hosts[before].coming.pop(session_id, None)
        self._places[session_id] = name
        host = self._hosts[name]
        host.sessions.add(session_id)
        host.coming[session_id] = ROUNDS_TO_ARRIVE
        host.used = True
        while len(self._places) > PLACES_REMEMBERED:
            self._places.popitem(last=False)

    def _least_loaded(self) -> str | None:
        roomy = [
            (len(host.sessions), name)
            for name, host in self._hosts.items()
            if host.answers and len(host.sessions) < self._sessions_per_host
        ]
        return min(roomy)[1] if roomy else None

    async def _grow(self, session_id: str) -> str:
        """Every host is full: start one more, or share the least full one, whose idle sessions make room."""
        async with self._growing:
            if (name := self._least_loaded()) is not None:
                return name
            if len(self._hosts) < self._max_per_node * max(1, await self._fleet.nodes()):
                try:
                    return await self._start()
                except AtCapacity:
                    self._logger.warning("no machine has room for another session actor")
            answering = [(len(host.sessions), name) for name, host in self._hosts.items() if host.answers]
            if not answering:
                raise AtCapacity("no session actor answers", session_id=session_id)
            return min(answering)[1]

    async def _start(self) -> str:
        name = await self._fleet.start()
        self._hosts.setdefault(name, _Host())
        return name

    async def wake(self, session_id: str) -> None:
        """Bring a session into memory. Raises what `locate` and its host raise."""
        await self._fleet.wake(await self.locate(session_id), session_id)

    async def tend(self) -> None:
        """One round of care: see who lives, keep enough hosts warm, wake sessions that were cut off."""
        # Asked first: a turn that is unfinished now and resident nowhere afterwards was cut off.
        unfinished = await self._journal.unfinished(limit=UNFINISHED_LOOKED_AT)
        await self.look()
        try:
            await self._keep_warm()
        except AtCapacity as error:
            self._logger.warning("not enough session actors are warm", reason=error.message)
        await self._wake(unfinished)

    async def look(self) -> None:
        """See which hosts live and what is resident there."""
        names = await self._fleet.names()
        for gone in set(self._hosts) - set(names):
            del self._hosts[gone]
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(self._fleet.status(name)) for name in names}
        for name, task in asked.items():
            self._note(name, task.result())

    def _note(self, name: str, status: HostStatus | None) -> None:
        host = self._hosts.setdefault(name, _Host())
        host.answers = status is not None and not status.draining
        if status is None:
            return
        host.coming = {
            session_id: rounds - 1
            for session_id, rounds in host.coming.items()
            if rounds > 1 and session_id not in status.sessions
        }
        host.sessions = {*status.sessions, *host.coming}
        host.used = host.used or bool(host.sessions)
        for session_id in status.sessions:
            self._places.setdefault(session_id, name)

    async def _keep_warm(self) -> None:
        """Hosts beyond the warm number that are empty go; with one session a host, used ones go too."""
        nodes = await self._fleet.nodes()
        warm, dedicated = self._warm_per_node * nodes, self._sessions_per_host == 1
        for name in list(self._hosts):
            empty = self._empty()
            spare = len(empty) > warm if dedicated else len(self._hosts) > warm
            # Asked again for each: while one is ended, another may get a session.
            if name in empty and (spare or (dedicated and self._hosts[name].used)):
                del self._hosts[name]
                await self._fleet.stop(name)
        missing = warm - (len(self._empty()) if dedicated else len(self._hosts))
        room = self._max_per_node * nodes - len(self._hosts)
        for _ in range(min(missing, room)):
            async with self._growing:
                await self._start()

    def _empty(self) -> list[str]:
        return [name for name, host in self._hosts.items() if host.answers and not host.sessions]

    async def _wake(self, unfinished: tuple[str, ...]) -> None:
        resident = {session_id for host in self._hosts.values() for session_id in host.sessions - host.coming.keys()}
        cut_off = [session_id for session_id in unfinished if session_id not in resident]
        for session_id in cut_off[:WAKES_AT_ONCE]:
            place = self._hosts.get(self._places.get(session_id, ""))
            # A host that is silent may still be running the turn: it gets until it is known to be gone.
            if place is not None and not place.answers:
                continue
            try:
                await self.wake(session_id)
            except GreenroomError as error:
                self._logger.warning("session not woken", session_id=session_id, error=error.message)

    def status(self) -> FleetStatus:
        return FleetStatus(
            hosts={name: len(host.sessions) for name, host in sorted(self._hosts.items())},
            silent=tuple(sorted(name for name, host in self._hosts.items() if not host.answers)),
            sessions=sum(len(host.sessions) for host in self._hosts.values()),
        )
