"""The audit of what sandboxes ask of the network, as a typed proxy over Ray handles.

A machine of sandboxes has no way to the stores, so a process that has one writes the row.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from .core import telemetry
from .core.errors import StoreUnavailable
from .ray_errors import ActorGone, translated
from .register import SESSION_PREFIX, HeadAway, Register
from .sandbox.egress_base import Attempt

RECORD_S = 4.0
"""A process that has not written by then is given up for another one."""

_TRIED = 2


class RemoteConnectionLog:
    """`ConnectionLog` in a session actor, whichever answers."""

    def __init__(self, namespace: str) -> None:
        self._register = Register(namespace)
        self._last: str | None = None
        """Who wrote last, and is asked first."""

    async def record(self, session_id: str, attempt: Attempt) -> None:
        telemetry.EGRESS_CONNECTIONS.labels(attempt.decision, attempt.rule or "").inc(attempt.count)
        failed = "no session actor is running"
        async for name, actor in self._writers():
            try:
                async with translated(ActorGone), asyncio.timeout(RECORD_S):
                    await actor.record_connection.remote(session_id, attempt)
            except (ActorGone, TimeoutError) as error:
                # It may have written all the same: then there are two rows of one attempt.
                self._register.doubt(name)
                self._last, failed = None, f"{name} did not write: {error}"
            else:
                self._last = name
                return
        raise StoreUnavailable(f"the audit of connections cannot be written: {failed}")

    async def _writers(self) -> AsyncIterator[tuple[str, Any]]:
        """Who wrote last, and then two others."""
        last = self._last
        if last is not None and self._register.has_met(last):
            yield last, await self._register.find(last)
        try:
            found = await self._register.all(SESSION_PREFIX)
        except HeadAway as error:
            raise StoreUnavailable(f"no session actor can be found: {error}") from error
        for name in [name for name in found if name != last][:_TRIED]:
            yield name, found[name]
