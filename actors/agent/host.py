"""The sessions that live in one process: activation from the journal, and passivation when idle.

Safety is the journal's epoch, never the host's belief: a host that was overtaken gets `Fenced` at its
next write, drops the session, and its callers ask the directory again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import AtCapacity, Draining, Fenced, NotHere, SessionExists, SessionNotFound, StoreUnavailable
from ..core.events import SessionCreated
from ..sandbox.base import Sandboxes
from .journal import FIRST_EPOCH, Journal
from .log import SessionLog
from .loop import TurnLoop
from .orders import Order
from .previews import Seen
from .session import Session
from .sessions import Batch, Receipt, Submit, TurnResult, Waiting
from .state import SessionState

ARRIVAL_S = 1.0
"""A host that drains waits at least so long for what is on its way into memory, so that it can leave again."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What the directory knows of a host: its sessions and how many run a turn."""

    sessions: tuple[str, ...]
    running: int
    draining: bool
    impaired: tuple[str, ...] = ()
    """Parts of its models that are left alone for a while, because they failed too often."""


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A session on its way into memory, brought for a user; for None, whoever owns it."""

    user_id: str | None
    task: asyncio.Task[Session]


class SessionHost:
    """Hosts sessions in memory. Belongs to one event loop.

    `activate` on a call says that the directory sent the caller here; without it a session that is not
    resident is `NotHere`, so that a caller with an old address does not tear sessions to and fro.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        loop: TurnLoop,
        sandboxes: Sandboxes,
        clock: Clock,
        capacity: int,
        inbox_max: int,
        idle_s: float,
        delta_interval_s: float,
        impaired: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._journal = journal
        self._loop = loop
        self._sandboxes = sandboxes
        self._clock = clock
        self._capacity = capacity
        self._inbox_max = inbox_max
        self._idle_s = idle_s
        self._delta_interval_s = delta_interval_s
        self._impaired = impaired
        self._sessions: dict[str, Session] = {}
        self._arriving: dict[str, _Arriving] = {}
        self._awaited: Counter[str] = Counter()
        self._draining = False

    # The Sessions Protocol, with `activate` -----------------------------------------------------------

    async def submit(self, command: Submit, *, activate: bool = True) -> Receipt:
        _, receipt = await self._accept(command, activate=activate)
        return receipt

    async def chat(self, command: Submit, *, wait_s: float, activate: bool = True) -> TurnResult | Receipt:
        session, receipt = await self._accept(command, activate=activate)
        return await self._touching(session, session.result(receipt.turn_id, wait_s=wait_s)) or receipt

    async def follow(
        self, session_id: str, user_id: str, *, after: int, seen: Seen, wait_s: float, activate: bool = True
    ) -> Batch:
        session = await self._find(session_id, user_id, activate=activate)
        return await self._touching(session, session.log.follow(after=after, seen=seen, wait_s=wait_s))

    async def cancel(self, session_id: str, user_id: str, turn_id: str, *, activate: bool = True) -> TurnResult | None:
        session = await self._find(session_id, user_id, activate=activate)
        return await self._touching(session, session.cancel(turn_id))

    async def control(self, session_id: str, user_id: str, order: Order, *, activate: bool = True) -> None:
        session = await self._find(session_id, user_id, activate=activate)
        await self._touching(session, session.control(order))

    async def inbox(self, session_id: str, user_id: str, *, activate: bool = True) -> tuple[Waiting, ...]:
        session = await self._find(session_id, user_id, activate=activate)
        return await self._touching(session, session.inbox())

    async def forget(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._drop(session)
            await session.leave(grace_s=0, reason=SessionNotFound(session_id=session_id))
        await self._sandboxes.release(session_id)

    # Hosting ------------------------------------------------------------------------------------------

    async def wake(self, session_id: str) -> None:
        """Activate a session, so that a turn that was cut off goes on, or one that waits need wait no longer."""
        await (await self._find(session_id, None, activate=True)).attend()

    def status(self) -> HostStatus:
        running = sum(1 for session in self._sessions.values() if session.busy)
        return HostStatus(tuple(self._sessions), running, self._draining, self._impaired())

    async def sweep(self) -> int:
        """Passivate what was idle for too long; how many it was. Decide what nobody decided in time."""
        for session in [s for s in self._sessions.values() if s.overdue]:
            await self._attend(session)
        await self._leave_overtaken()
        limit = self._clock.monotonic() - self._idle_s
        idle = [s for s in self._sessions.values() if not s.busy and s.touched < limit]
        for session in idle:
            self._drop(session)
        return len(idle)

    async def _leave_overtaken(self) -> None:
        """Drop sessions that live elsewhere by now: without a write nobody here would learn it, their readers least."""
        held = {session_id: session.log.epoch for session_id, session in self._sessions.items()}
        try:
            overtaken = await self._journal.overtaken(held) if held else ()
        except StoreUnavailable:
            return  # asked again in the next round
        for session_id in overtaken:
            session = self._sessions.get(session_id)
            if session is not None and session.log.epoch == held[session_id]:
                session.log.lose(Fenced(session_id=session_id, epoch=held[session_id]))

    async def drain(self, *, grace_s: float) -> None:
        """Take no new work, let turns end for `grace_s`, then leave them to the next host."""
        self._draining = True
        arriving = [one.task for one in self._arriving.values()]
        async with asyncio.TaskGroup() as group:
            if arriving:
                group.create_task(asyncio.wait(arriving, timeout=max(ARRIVAL_S, grace_s)))
            for session in list(self._sessions.values()):
                group.create_task(session.leave(grace_s=grace_s))
        self._sessions.clear()

    async def _accept(self, command: Submit, *, activate: bool) -> tuple[Session, Receipt]:
        if command.new is None or command.session_id in self._sessions:
            session = await self._find(command.session_id, command.user_id, activate=activate)
        elif not activate:
            raise NotHere(session_id=command.session_id)
        else:
            session = await self._arrive(command.session_id, command.user_id, lambda: self._open(command))
            session.check_owner(command.user_id)
        return session, await self._touching(session, session.submit(command))

    async def _attend(self, session: Session) -> None:
        try:
            await session.attend()
        except Exception:
            if session.log.lost is None:
                raise
            # Lost here, as it was told itself: that is no trouble of the others.

    async def _touching(self, session: Session, call: Awaitable[_T]) -> _T:
        try:
            return await call
        finally:
            session.touched = self._clock.monotonic()

    def _drop(self, session: Session) -> None:
        if self._sessions.get(session.session_id) is session:
            del self._sessions[session.session_id]
            telemetry.ACTIVE_SESSIONS.set(len(self._sessions))

    async def _find(self, session_id: str, user_id: str | None, *, activate: bool) -> Session:
        session = self._sessions.get(session_id)
        if session is None:
            if not activate:
                raise NotHere(session_id=session_id)
            session = await self._arrive(session_id, user_id, lambda: self._activate(session_id, user_id))
        if user_id is not None:
            session.check_owner(user_id)
        session.touched = self._clock.monotonic()
        return session

    async def _arrive(self, session_id: str, user_id: str | None, bring: Callable[[], Awaitable[Session]]) -> Session:
        """Bring a session into memory once, however many ask for it, and whoever of them gives up."""
        while (session := self._sessions.get(session_id)) is None:
            arriving = self._arriving.get(session_id) or self._set_out(session_id, user_id, bring)
            if arriving.user_id in (None, user_id):
                return await self._joined(session_id, arriving.task)
            # Brought for somebody else, who may have no right to it: seen first, so that it arrives once.
            await asyncio.wait([arriving.task])
        return session

    def _set_out(self, session_id: str, user_id: str | None, bring: Callable[[], Awaitable[Session]]) -> _Arriving:
        self._make_room()
        task = asyncio.create_task(self._bring(bring), name=f"arrive {session_id}")
        task.add_done_callback(lambda task: self._arrived(session_id, task))
        arriving = self._arriving[session_id] = _Arriving(user_id, task)
        return arriving

    async def _joined(self, session_id: str, arriving: asyncio.Task[Session]) -> Session:
        # Counted until the caller has it in hand: it must not be pushed out to make room in between.
        self._awaited[session_id] += 1
        try:
            return await asyncio.shield(arriving)
        finally:
            self._awaited[session_id] -= 1
            if not self._awaited[session_id]:
                del self._awaited[session_id]

    async def _bring(self, bring: Callable[[], Awaitable[Session]]) -> Session:
        session = await bring()
        if self._draining:
            # A session that was opened just now runs its turn already, and nobody else holds it.
            await session.leave(grace_s=0)
            raise Draining
        if session.log.lost is not None:
            raise session.log.lost
        self._sessions[session.session_id] = session
        telemetry.ACTIVE_SESSIONS.set(len(self._sessions))
        session.start_next()
        return session

    def _arrived(self, session_id: str, task: "asyncio.Task[Session]") -> None:
        del self._arriving[session_id]
        if not task.cancelled():
            task.exception()  # retrieved: those who asked may all have gone

    def _make_room(self) -> None:
        if self._draining:
            raise Draining
        if len(self._sessions) + len(self._arriving) < self._capacity:
            return
        idle = [s for s in self._sessions.values() if not s.busy and s.session_id not in self._awaited]
        if not idle:
            raise AtCapacity(capacity=self._capacity)
        self._drop(min(idle, key=lambda session: session.touched))

    async def _activate(self, session_id: str, user_id: str | None) -> Session:
        started = self._clock.monotonic()
        activation = await self._journal.activate(session_id, user_id)
        state = SessionState(session_id)
        for event in activation.events:
            state.apply(event)
        telemetry.ACTIVATION_SECONDS.observe(self._clock.monotonic() - started)
        return self._session(state, activation.epoch, activation.open_attempts)

    async def _open(self, command: Submit) -> Session:
        """A new session with its first message, in one commit; the one that is there if it exists."""
        new = command.new
        assert new is not None
        session = self._session(SessionState(command.session_id), FIRST_EPOCH)
        session.log.stage(SessionCreated(command.user_id, new.model, new.system, new.metadata, new.approvals))
        try:
            await session.submit(command)
        except SessionExists:
            return await self._activate(command.session_id, command.user_id)
        return session

    def _session(
        self, state: SessionState, epoch: int, open_attempts: dict[str, tuple[str, ...]] | None = None
    ) -> Session:
        log = SessionLog(
            state,
            epoch=epoch,
            journal=self._journal,
            clock=self._clock,
            delta_interval_s=self._delta_interval_s,
        )
        return Session(
            log,
            self._loop,
            self._clock,
            self._drop,
            self._inbox_max,
            open_attempts or {},
            touched=self._clock.monotonic(),
        )
