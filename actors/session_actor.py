"""SessionActor: a process that hosts sessions. A shell round `agent/host.py`."""

import asyncio
from contextlib import AsyncExitStack

import ray

from .agent.connections import ConnectionAudit
from .agent.host import HostStatus, SessionHost
from .agent.orders import Order
from .agent.previews import Seen
from .agent.sessions import Batch, Receipt, Submit, TurnResult, Waiting
from .core import telemetry
from .core.clock import SystemClock
from .core.opened import Opened
from .core.rounds import repeat
from .core.settings import Settings
from .leave import check_leave
from .sandbox.egress_base import Attempt
from .wiring.connections import open_connection_audit
from .wiring.sessions import open_session_host

SWEEP_S = 5.0


@ray.remote
class SessionActor:
    """See `SessionHost` for what the methods promise. One event loop; every method may run many times at once.

    `until` says until when a call may bring its session into memory, see `leave.py`; None, that it may not.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._stack = AsyncExitStack()
        self._host = Opened(self._open)
        self._connections = Opened(self._open_connections)
        self._sweeper: asyncio.Task[None] | None = None

    async def _open(self) -> SessionHost:
        telemetry.configure_logging(self._settings.log_level)
        host = await self._stack.enter_async_context(open_session_host(self._settings))
        pause_s = min(SWEEP_S, self._settings.session_idle_s)
        self._sweeper = asyncio.create_task(repeat(host.sweep, lambda: asyncio.sleep(pause_s), name="sweep"))
        return host

    async def _open_connections(self) -> ConnectionAudit:
        return await self._stack.enter_async_context(open_connection_audit(self._settings))

    def _may(self, until: float | None, session_id: str) -> bool:
        return check_leave(until, self._clock, session_id)

    async def submit(self, command: Submit, *, until: float | None) -> Receipt:
        return await (await self._host.get()).submit(command, activate=self._may(until, command.session_id))

    async def chat(self, command: Submit, *, wait_s: float, until: float | None) -> TurnResult | Receipt:
        return await (await self._host.get()).chat(
            command, wait_s=wait_s, activate=self._may(until, command.session_id)
        )

    async def follow(
        self, session_id: str, user_id: str, *, after: int, seen: Seen, wait_s: float, until: float | None
    ) -> Batch:
        host = await self._host.get()
        return await host.follow(
            session_id, user_id, after=after, seen=seen, wait_s=wait_s, activate=self._may(until, session_id)
        )

    async def cancel(self, session_id: str, user_id: str, turn_id: str, *, until: float | None) -> TurnResult | None:
        return await (await self._host.get()).cancel(
            session_id, user_id, turn_id, activate=self._may(until, session_id)
        )

    async def control(self, session_id: str, user_id: str, order: Order, *, until: float | None) -> None:
        await (await self._host.get()).control(session_id, user_id, order, activate=self._may(until, session_id))

    async def inbox(self, session_id: str, user_id: str, *, until: float | None) -> tuple[Waiting, ...]:
        return await (await self._host.get()).inbox(session_id, user_id, activate=self._may(until, session_id))

    async def forget(self, session_id: str) -> None:
        await (await self._host.get()).forget(session_id)

    async def wake(self, session_id: str, *, until: float) -> None:
        host = await self._host.get()
        self._may(until, session_id)
        await host.wake(session_id)

    async def status(self) -> HostStatus:
        return (await self._host.get()).status()

    async def watch(self, wait_s: float) -> str:
        """The id of this process's machine, after so long: a call that fails as soon as the process ends."""
        await asyncio.sleep(wait_s)
        return ray.get_runtime_context().get_node_id()

    async def record_connection(self, session_id: str, attempt: Attempt) -> None:
        """Any session's: sandboxes run where no store can be reached, and ask a process that can."""
        await (await self._connections.get()).record(session_id, attempt)

    async def metrics(self) -> bytes:
        return telemetry.exposition()

    async def drain(self, *, grace_s: float) -> None:
        await (await self._host.get()).drain(grace_s=grace_s)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._stack.aclose()
