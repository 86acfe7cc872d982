"""How each kind of fault is done to a testbed, held, and undone as far as that is an operator's business.

What the runtime itself has to mend (dead actors, lost connections, sessions that were cut off) is left to it.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import psutil
import sqlalchemy as sa

from actors.agent.tables import SESSIONS
from cluster.processes import Process, process

from .proxy import Proxy
from .schedule import Step
from .testbed import Testbed
from .waiting import eventually

_FOUND_S = 30.0
_TAKEN_OVER_S = 45.0
_TRIES = 3
_TALKING_S = 0.7
"""Scripted answers have gaps of up to 0.6 s."""

_DOWN_S = 2.0
_DELAY_S = 0.4


class NotInjected(Exception):
    """The fault could not be done; the message says why."""


class Faults:
    """Each method does its fault and returns what it was done to, when it is over."""

    def __init__(self, bed: Testbed) -> None:
        self._bed = bed
        self.struck_at: float | None = None
        """When the fault began, by the time of day: some first wait for something to strike."""

    async def inject(self, step: Step) -> str:
        """Do it, hold it, end it. Raises `NotInjected`."""
        self.struck_at = None
        verb, _, target = step.kind.partition(" ")
        special: dict[str, Callable[[Step], Awaitable[str]]] = {
            "two owners": self._two_owners,
            "kill redis": self._kill_redis,
            "restart postgresql": self._restart_postgresql,
        }
        if step.kind in special:
            return await special[step.kind](step)
        if verb == "kill":
            return await self._kill(step, target)
        if verb == "stop":
            return await self._stop(step, target)
        return await self._disturb(step, verb, target)

    async def _kill(self, step: Step, target: str) -> str:
        struck = await self._pick(target, step.pick)
        self._strike()
        _send(struck, signal.SIGKILL)
        return _pids(struck)

    async def _stop(self, step: Step, target: str) -> str:
        struck = await self._pick(target, step.pick)
        self._strike()
        _send(struck, signal.SIGSTOP)
        try:
            await asyncio.sleep(step.hold_s)
        finally:
            _send(struck, signal.SIGCONT)
        return f"{_pids(struck)} for {step.hold_s:g} s"

    async def _disturb(self, step: Step, verb: str, target: str) -> str:
        line = self._bed.model if target == "model" else self._bed.sql
        assert line is not None
        self._strike()
        held = line.connections
        try:
            _disturb(line, verb)
            await asyncio.sleep(step.hold_s)
        finally:
            line.heal()
        return f"{held} connections for {step.hold_s:g} s"

    async def _kill_redis(self, step: Step) -> str:
        self._strike()
        await self._bed.redis.end()
        await asyncio.sleep(_DOWN_S)
        await self._bed.redis.start()
        return f"down for {_DOWN_S:g} s"

    async def _restart_postgresql(self, step: Step) -> str:
        postgres = self._bed.postgres
        assert postgres is not None
        self._strike()
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(step.hold_s / 4)
        await asyncio.to_thread(postgres.start)
        return f"down for {step.hold_s / 4:.1f} s"

    async def _two_owners(self, step: Step) -> str:
        """Let a host stand still in the middle of a turn until another host has taken a session; then wake it."""
        for _ in range(_TRIES):
            host = await self._busy_host()
            before = await self._epochs()
            self._strike()
            host.send(signal.SIGSTOP)
            try:
                taken = await self._taken_over(before)
                await asyncio.sleep(1.0)  # the new owner writes, and the old one still believes that it may
            finally:
                host.send(signal.SIGCONT)
            if taken:
                return f"pid {host.pid}; {taken} taken over"
        raise NotInjected(f"of {_TRIES} hosts that stood still for {_TAKEN_OVER_S:g} s no session was taken over")

    async def _busy_host(self) -> Process:
        """A session actor to which a model is just talking."""

        def talking() -> Process | None:
            return next((one for one in self._bed.found("session actor") if self._talks_to_model(one)), None)

        if (host := await eventually(talking, within_s=_FOUND_S, every_s=0.05)) is None:
            raise NotInjected(f"no session actor had a model call under way within {_FOUND_S:g} s")
        return host

    def _talks_to_model(self, one: Process) -> bool:
        busy = self._bed.model.busy_ports(within_s=_TALKING_S)
        try:
            connections = psutil.Process(one.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(connection.laddr and connection.laddr.port in busy for connection in connections)

    async def _taken_over(self, before: dict[str, int]) -> str:
        async def taken() -> list[str]:
            now = await self._epochs()
            return [session_id for session_id, epoch in before.items() if now.get(session_id, epoch) > epoch]

        return ", ".join(await eventually(taken, within_s=_TAKEN_OVER_S, every_s=0.25))

    async def _epochs(self) -> dict[str, int]:
        query = sa.select(SESSIONS.c.id, SESSIONS.c.epoch)
        rows = await self._bed.database.read(lambda connection: connection.execute(query).all())
        return {row.id: row.epoch for row in rows}

    async def _pick(self, target: str, fraction: float) -> list[Process]:
        if not (found := await eventually(lambda: self._targets(target), within_s=_FOUND_S)):
            raise NotInjected(f"there was no {target} to strike within {_FOUND_S:g} s")
        # HAProxy leaves old processes behind, which only end what they have: one of them alone is no loss.
        return found if target == "haproxy" else [found[int(fraction * len(found))]]

    def _targets(self, target: str) -> list[Process]:
        if target == "redis":
            pids = [self._bed.redis.pid]
        elif target == "gcs":
            pids = [pid for pid in [self._bed.nodes.gcs] if pid is not None]
        elif target == "raylet":
            pids = self._bed.nodes.raylets
        else:
            return self._bed.found(target)
        return [one for pid in pids if (one := process(pid)) is not None]

    def _strike(self) -> None:
        self.struck_at = time.time()


def _send(struck: list[Process], number: signal.Signals) -> None:
    for one in struck:
        one.send(number)


def _pids(struck: list[Process]) -> str:
    return "pid " + ", ".join(str(one.pid) for one in struck)


def _disturb(line: Proxy, verb: str) -> None:
    match verb:
        case "cut":
            line.cut()
        case "stall":
            line.stall()
        case _:
            line.delay(_DELAY_S)
