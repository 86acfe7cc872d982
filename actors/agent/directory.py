"""Which host serves which session: spread first, then share.

A cache of the truth. The truth is the journal (who may write) and the hosts themselves (what is
resident): the directory is rebuilt by asking them, and a wrong answer of it costs a retry, never a write.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from ..core.clock import Clock
from ..core.errors import AtCapacity, GreenroomError, SessionLost, SessionNotFound
from .fleet import Fleet, FleetStatus, KnownHost, Warm, empty, staying
from .journal import Journal

PLACES_REMEMBERED = 200_000
UNFINISHED_LOOKED_AT = 100_000
WAKES_AT_ONCE = 100
WAKES_TOGETHER = 16
LOOK_S = 1.0
"""A round of care waits for its hosts so long; without any that answers, until the first one does."""

MISS_S = 2.0
"""A host that has not answered for so long gets no new sessions until it does."""

WAKE_S = 1.0
"""A round of care waits for its wakes so long; those that take longer go on beside it."""


_T = TypeVar("_T")


class Directory:
    """Places sessions. Belongs to one event loop."""

    def __init__(
        self,
        fleet: Fleet,
        journal: Journal,
        *,
        clock: Clock,
        warm_per_node: int,
        max_per_node: int,
        sessions_per_host: int,
        silent_s: float,
    ) -> None:
        self._fleet = fleet
        self._journal = journal
        self._clock = clock
        self._warm = Warm(warm_per_node, dedicated=sessions_per_host == 1)
        self._max_per_node = max_per_node
        self._sessions_per_host = sessions_per_host
        self._silent_s = silent_s
        self._hosts: dict[str, KnownHost] = {}
        self._places: OrderedDict[str, str] = OrderedDict()
        # One host is started at a time: the machine starts no two faster than one after the other.
        self._growing = asyncio.Lock()
        self._placing: dict[str, asyncio.Task[str]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked_at: dict[str, float] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._wakes = asyncio.Semaphore(WAKES_TOGETHER)
        self._stirred = asyncio.Event()
        self._logger = structlog.get_logger("greenroom.directory")

    # Placement ----------------------------------------------------------------------------------------

    async def locate(
        self,
        session_id: str,
        *,
        failed: str | None = None,
        refused: str | None = None,
        full: tuple[str, ...] = (),
        new: bool = False,
    ) -> str:
        """The host of a session. `failed` names a host that did not answer the caller, `refused` one that answered
        and would not serve it, `full` those that had no room for it.

        Raises `SessionNotFound` for one that is neither placed, nor in the journal, nor `new`: it would take a
        process for nothing.
        """
        self._heed(session_id, failed, refused, full)
        if (name := self._known_place(session_id)) is not None:
            return name
        if session_id not in self._placing:
            # Shared: two answers for one session would make two hosts take it from each other.
            self._begin(self._placing, session_id, self._place(session_id, full, new=new))
        return await asyncio.shield(self._placing[session_id])

    def _heed(self, session_id: str, failed: str | None, refused: str | None, full: tuple[str, ...]) -> None:
        """What the caller tells of hosts that did not serve it."""
        if failed is not None and (host := self._hosts.get(failed)) is not None:
            host.missed(now=self._clock.monotonic())
        if refused is not None and (host := self._hosts.get(refused)) is not None and not host.open:
            host.drop(session_id)  # it has left
        if (name := self._places.get(session_id)) in full and not self._resides(session_id):
            del self._places[session_id]
            if (host := self._hosts.get(name or "")) is not None:
                host.drop(session_id)

    def _resides(self, session_id: str) -> bool:
        """It was seen where it was sent."""
        host = self._hosts.get(self._places.get(session_id, ""))
        return host is not None and host.has(session_id)

    def _known_place(self, session_id: str) -> str | None:
        name = self._places.get(session_id)
        host = self._hosts.get(name) if name is not None else None
        if host is None:
            return None
        if not host.has(session_id):
            # A host that is about to leave runs on what it has. Of what has left its memory it may be full by now.
            if not host.open or not (session_id in host.sessions or self._has_room(host)):
                return None
            host.expect(session_id, now=self._clock.monotonic())
        self._places.move_to_end(session_id)
        return name

    def _has_room(self, host: KnownHost) -> bool:
        return len(host.sessions) < self._sessions_per_host

    async def _place(self, session_id: str, full: tuple[str, ...], *, new: bool) -> str:
        if not new and not await self._journal.exists(session_id):
            raise SessionNotFound(session_id=session_id)
        name = self._least_loaded(full)
        if name is None:
            name = await self._grow(session_id, full)
        self._assign(session_id, name)
        return name

    def _assign(self, session_id: str, name: str) -> None:
        before = self._hosts.get(self._places.get(session_id, ""))
        if before is not None:
            before.drop(session_id)
        self._places[session_id] = name
        self._hosts[name].expect(session_id, now=self._clock.monotonic())
        while len(self._places) > PLACES_REMEMBERED:
            self._places.popitem(last=False)

    def _least_loaded(self, full: tuple[str, ...]) -> str | None:
        roomy = [
            (len(host.sessions), name)
            for name, host in self._hosts.items()
            if host.open and name not in full and self._has_room(host)
        ]
        return min(roomy)[1] if roomy else None

    async def _grow(self, session_id: str, full: tuple[str, ...]) -> str:
        """Every host is full: start one more, or share the least full one, whose idle sessions make room."""
        async with self._growing:
            if (name := self._least_loaded(full)) is not None:
                return name
            if staying(self._hosts) < self._max_per_node * max(1, len(await self._fleet.machines())):
                try:
                    return await self._start()
                except AtCapacity as error:
                    self._logger.warning("no other session actor", reason=error.message)
            answering = [(len(host.sessions), name) for name, host in self._hosts.items() if host.open]
            if not answering:
                raise AtCapacity("no session actor answers", session_id=session_id)
            if not (rest := [one for one in answering if one[1] not in full]):
                raise AtCapacity(session_id=session_id)
            return min(rest)[1]

    async def _start(self) -> str:
        name = await self._fleet.start()
        self._hosts.setdefault(name, KnownHost())
        return name

    # Care ---------------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """One round of care."""
        await self.rescue()
        await self.keep_warm()

    async def rest(self, at_most_s: float) -> None:
        """Return when a host was lost, or after that time."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._stirred.wait()
        except TimeoutError:
            return
        self._stirred.clear()

    async def rescue(self) -> None:
        """See who lives, empty the hosts that have to go, wake the sessions that were cut off."""
        # Asked first: a turn that is unfinished now and resident nowhere afterwards was cut off.
        unfinished = await self._journal.unfinished(limit=UNFINISHED_LOOKED_AT)
        await self.look()
        await self._retire()
        await self._wake_all(unfinished)

    async def look(self) -> None:
        """See which hosts live and what is resident there."""
        names = await self._fleet.names()
        for gone in set(self._hosts) - set(names):
            self._remove(gone)
        for name in names:
            if name not in self._asking:
                self._asked_at[name] = self._clock.monotonic()
                self._begin(self._asking, name, self._look_at(name))
        # Nobody waits for a host that was silent before: it is asked all the same, and heard when it answers.
        unknown = KnownHost()
        waited = {self._asking[name] for name in names if self._hosts.get(name, unknown).silent_since is None}
        if waited:
            _, waited = await asyncio.wait(waited, timeout=LOOK_S)
        while waited and not any(host.open for host in self._hosts.values()):
            _, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        now = self._clock.monotonic()
        for name, host in self._hosts.items():
            # Slow is not silent: it is asked no second time, and its answer counts whenever it comes.
            if name in self._asking and now - self._asked_at[name] >= MISS_S:
                host.missed(now=self._asked_at[name])
            if host.sessions and host.silent_since is not None and now - host.silent_since >= self._silent_s:
                self._logger.warning("host given up", host=name, silent_s=now - host.silent_since)
                # Should it still run them, the journal's epoch stops it when they are woken elsewhere.
                self._lost(name)

    async def _look_at(self, name: str) -> None:
        try:
            status = await self._fleet.status(name)
        except SessionLost:
            self._lost(name)
            return
        host, now = self._hosts.setdefault(name, KnownHost()), self._clock.monotonic()
        if status is None:
            host.missed(now=now)
            return
        # Of a session that was placed elsewhere meanwhile it has an old copy.
        resident = {s for s in status.sessions if self._places.setdefault(s, name) == name}
        host.answered(resident, draining=status.draining, now=now)
        host.impaired = status.impaired
        if name not in self._watching:
            self._begin(self._watching, name, self._watch(name))

    async def _watch(self, name: str) -> None:
        await self._fleet.ended(name)
        self._lost(name)
        self._stirred.set()

    def _lost(self, name: str) -> None:
        if (host := self._hosts.get(name)) is None:
            return
        for session_id in host.sessions:
            if (waking := self._waking.pop(session_id, None)) is not None:
                waking.cancel()  # it waits for a host that will not answer
        host.lose(now=self._clock.monotonic())

    def _remove(self, name: str) -> None:
        self._hosts.pop(name, None)
        self._asked_at.pop(name, None)
        for tasks in (self._asking, self._watching):
            if (task := tasks.get(name)) is not None:
                task.cancel()

    async def _retire(self) -> None:
        for name, within_s in (await self._fleet.leaving()).items():
            host = self._hosts.get(name)
            if host is not None and not host.leaving:
                host.leaving = True
                self._logger.info("host has to go", host=name, within_s=within_s, sessions=len(host.sessions))
                self._begin(self._retiring, name, self._fleet.retire(name, within_s=within_s))

    async def _wake_all(self, unfinished: tuple[str, ...]) -> None:
        cut_off = [session_id for session_id in unfinished if not self._resident(session_id)]
        begun = [session_id for session_id in cut_off[:WAKES_AT_ONCE] if session_id not in self._waking]
        for session_id in begun:
            self._begin(self._waking, session_id, self._wake_one(session_id))
        if begun:
            await asyncio.wait([self._waking[session_id] for session_id in begun], timeout=WAKE_S)

    def _resident(self, session_id: str) -> bool:
        host = self._hosts.get(self._places.get(session_id, ""))
        # On the way counts too; and a host that has just fallen silent may still be running the turn.
        return host is not None and session_id in host.sessions

    async def _wake_one(self, session_id: str) -> None:
        async with self._wakes:
            try:
                await self.wake(session_id)
            except GreenroomError as error:
                self._logger.warning("session not woken", session_id=session_id, error=error.message)
                if (host := self._hosts.get(self._places.get(session_id, ""))) is not None:
                    host.drop(session_id)

    async def wake(self, session_id: str) -> None:
        """Bring a session into memory. Raises what `locate` and its host raise."""
        await self._fleet.wake(await self.locate(session_id), session_id)

    async def keep_warm(self) -> None:
        """Hosts beyond the warm number that are empty go; with one session a host, used ones go too."""
        machines = await self._fleet.machines()
        for name in list(self._hosts):
            # Asked again for each: while one is ended, another may get a session.
            if name in empty(self._hosts) and self._warm.spare(name, self._hosts, machines):
                # It gets nothing new, and counts among those that the machine may run until it is gone.
                self._hosts[name].draining = True
                await self._fleet.stop(name)
                self._remove(name)
        try:
            for _ in range(self._warm.missing(self._hosts, machines)):
                async with self._growing:
                    # Seen in here: a session that needed one may have started it meanwhile.
                    if staying(self._hosts) >= self._max_per_node * len(machines):
                        return
                    await self._start()
        except AtCapacity as error:
            self._logger.warning("not enough session actors are warm", reason=error.message)

    def status(self) -> FleetStatus:
        return FleetStatus(
            hosts={name: len(host.sessions) for name, host in sorted(self._hosts.items())},
            silent=tuple(sorted(name for name, host in self._hosts.items() if host.silent_since is not None)),
            sessions=sum(len(host.sessions) for host in self._hosts.values()),
            leaving=tuple(sorted(name for name, host in self._hosts.items() if host.leaving)),
            impaired=tuple(sorted({part for host in self._hosts.values() for part in host.impaired})),
        )

    def close(self) -> None:
        """Stop what goes on beside the rounds."""
        for tasks in (self._asking, self._watching, self._waking, self._retiring):
            for task in list(tasks.values()):
                task.cancel()

    def _begin(self, tasks: "dict[str, asyncio.Task[_T]]", key: str, work: Coroutine[Any, Any, _T]) -> None:
        """Something that goes on beside the rounds, once at a time for each key."""

        def ended(task: "asyncio.Task[_T]") -> None:
            if tasks.get(key) is task:
                del tasks[key]
            if not task.cancelled() and (error := task.exception()) and not isinstance(error, GreenroomError):
                self._logger.error("care failed", key=key, exc_info=error)

        tasks[key] = asyncio.create_task(work)
        tasks[key].add_done_callback(ended)
