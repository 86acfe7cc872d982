"""The directory and the sessions as typed proxies over Ray handles: the same Protocols as what is behind them.

Methods run with `max_task_retries=0`: a call is repeated here or nowhere, and only calls that are safe to
repeat are (every message carries its id).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from .agent.fleet import FleetStatus
from .agent.orders import Order
from .agent.previews import Seen
from .agent.session import CANCEL_S
from .agent.sessions import Batch, Receipt, Submit, TurnResult, Waiting
from .core.clock import Clock
from .core.errors import (
    AtCapacity,
    Draining,
    Fenced,
    GreenroomError,
    NotHere,
    SessionLost,
    SessionNotFound,
)
from .leave import Leaves
from .ray_errors import UNMET, ActorGone, translated
from .register import DIRECTORY, NotRegistered, Register
from .sandbox_handles import RemoteSandboxes

CALL_S = 30.0
"""Deadline of a call that has none of its own."""

TRY_S = 5.0
"""A session actor that has not answered by then, beyond what it was asked to wait, is taken for silent."""

SLICE_S = 10.0
"""A long wait is asked for in such pieces, so that a process which stands still is noticed."""

KNOCK_S = 1.0
"""A process that answers nothing else within its time answers this soon, or stands still."""

RETRY_S = 20.0
"""A session's call is tried again elsewhere for so long: a lost host is replaced within this time."""

PLACES_CACHED = 50_000

_ELSEWHERE = (NotHere, Fenced, SessionLost, Draining)
"""Answers of a host that mean: ask the directory again."""

T = TypeVar("T")


class RemoteDirectory:
    """The directory, found again by name when it was restarted."""

    def __init__(self, register: Register) -> None:
        self._register = register

    async def locate(
        self,
        session_id: str,
        *,
        failed: str | None = None,
        refused: str | None = None,
        full: tuple[str, ...] = (),
        new: bool = False,
    ) -> str:
        return await self._call(
            lambda actor: actor.locate.remote(session_id, failed=failed, refused=refused, full=full, new=new)
        )

    async def status(self) -> FleetStatus:
        return await self._call(lambda actor: actor.status.remote())

    async def _call(self, call: Callable[[Any], Awaitable[T]]) -> T:
        try:
            async with translated(ActorGone), asyncio.timeout(CALL_S):
                return await call(await self._register.find(DIRECTORY))
        except (*UNMET, ActorGone, TimeoutError) as error:
            self._register.doubt(DIRECTORY)
            raise SessionLost(f"the directory does not answer: {error or 'not within its time'}") from error


class RemoteSessions:
    """`Sessions` over the fleet: knows where sessions live, asks the directory when it is wrong."""

    def __init__(self, namespace: str, clock: Clock) -> None:
        self.register = Register(namespace)
        self.directory = RemoteDirectory(self.register)
        self._namespace = namespace
        self._clock = clock
        self._leaves = Leaves(clock)
        self._places: OrderedDict[str, str] = OrderedDict()

    async def submit(self, command: Submit) -> Receipt:
        return await self._call(
            command.session_id,
            TRY_S,
            lambda host, until: host.submit.remote(command, until=until),
            new=command.new is not None,
        )

    async def chat(self, command: Submit, *, wait_s: float) -> TurnResult | Receipt:
        give_up = self._clock.monotonic() + wait_s
        while True:
            asked = self._clock.monotonic()
            piece_s = max(0.0, min(SLICE_S, give_up - asked))
            # Sent again it is the same message, which is accepted once.
            answer = await self._call(
                command.session_id,
                piece_s + TRY_S,
                lambda host, until, piece_s=piece_s: host.chat.remote(command, wait_s=piece_s, until=until),
                new=command.new is not None,
            )
            now = self._clock.monotonic()
            # A receipt before its time: this turn has ended and is no longer known there. The journal knows.
            if isinstance(answer, TurnResult) or now >= give_up or now < asked + piece_s / 2:
                return answer

    async def follow(self, session_id: str, user_id: str, *, after: int, seen: Seen, wait_s: float) -> Batch:
        return await self._call(
            session_id,
            wait_s + TRY_S,
            lambda host, until: host.follow.remote(
                session_id, user_id, after=after, seen=seen, wait_s=wait_s, until=until
            ),
        )

    async def cancel(self, session_id: str, user_id: str, turn_id: str) -> TurnResult | None:
        return await self._call(
            session_id,
            CANCEL_S + TRY_S,
            lambda host, until: host.cancel.remote(session_id, user_id, turn_id, until=until),
        )

    async def control(self, session_id: str, user_id: str, order: Order) -> None:
        await self._call(
            session_id,
            CANCEL_S + TRY_S,
            lambda host, until: host.control.remote(session_id, user_id, order, until=until),
        )

    async def inbox(self, session_id: str, user_id: str) -> tuple[Waiting, ...]:
        return await self._call(
            session_id,
            TRY_S,
            lambda host, until: host.inbox.remote(session_id, user_id, until=until),
        )

    async def forget(self, session_id: str) -> None:
        try:
            await self._call(session_id, TRY_S, lambda host, _: host.forget.remote(session_id))
        except SessionNotFound:
            # No process hosts it. Its sandbox may be there all the same.
            await RemoteSandboxes(self._namespace).release(session_id)
        self._places.pop(session_id, None)

    async def _call(
        self, session_id: str, timeout_s: float, call: Callable[[Any, float | None], Awaitable[T]], *, new: bool = False
    ) -> T:
        give_up = self._clock.monotonic() + RETRY_S
        told = _Told()
        pause = 0.02
        while True:
            name = self._places.get(session_id)
            placed = name is None
            try:
                if name is None:
                    name = await self.directory.locate(session_id, **asdict(told), new=new)
                host = await self.register.find(name)
                until = self._leaves.until(name, timeout_s) if placed else None
                async with translated(ActorGone), asyncio.timeout(timeout_s):
                    answer = await call(host, until)
            except (*_ELSEWHERE, *UNMET, AtCapacity, ActorGone, TimeoutError) as error:
                if name is None and isinstance(error, AtCapacity):
                    raise  # the directory knows of no host with room
                told = await self._learn(session_id, name, error, told)
                if self._clock.monotonic() + pause > give_up:
                    raise _final(error, session_id) from error
                await self._clock.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                self._remember(session_id, name)
                return answer

    async def _learn(self, session_id: str, name: str | None, error: Exception, told: "_Told") -> "_Told":
        """What to tell the directory of a host that did not serve a call."""
        if name is not None and isinstance(error, TimeoutError) and await self._hears(name):
            # It is slow, as with a database that is, and what it runs is not taken away from it: the same call
            # again finds what the first one began.
            return _Told(full=told.full)
        self._places.pop(session_id, None)
        if name is not None:
            self._leaves.learn(name, error)
        # A lost process is the directory's business too; a host that answers is not to blame, and neither
        # is one that cannot be met while the head is away.
        failed = name if isinstance(error, ActorGone | TimeoutError | NotRegistered) else None
        refused = name if isinstance(error, _ELSEWHERE) else None
        if failed is not None:
            self.register.doubt(failed)
        full = (*told.full, name) if name is not None and isinstance(error, AtCapacity) else told.full
        return _Told(failed, refused, full)

    async def _hears(self, name: str) -> bool:
        """Whether a host answers at all."""
        try:
            async with translated(ActorGone), asyncio.timeout(KNOCK_S):
                await (await self.register.find(name)).watch.remote(0)
        except (*UNMET, ActorGone, TimeoutError):
            return False
        return True

    async def meet(self) -> None:
        """Make sure that every host can be called without the head of the cluster, should it go away."""
        for name in (await self.directory.status()).hosts:
            with suppress(*UNMET, ActorGone, TimeoutError):
                async with translated(ActorGone), asyncio.timeout(TRY_S):
                    await self.register.meet(name, lambda host: host.watch.remote(0))

    def _remember(self, session_id: str, name: str) -> None:
        self._places[session_id] = name
        self._places.move_to_end(session_id)
        while len(self._places) > PLACES_CACHED:
            self._places.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the directory is told of hosts that did not serve a call; see `Directory.locate`."""

    failed: str | None = None
    refused: str | None = None
    full: tuple[str, ...] = ()


def _final(error: BaseException, session_id: str) -> GreenroomError:
    if isinstance(error, GreenroomError):
        return error
    reason = str(error) or "not within its time"
    return SessionLost(f"no session actor answered: {reason}", session_id=session_id)
