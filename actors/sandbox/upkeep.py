"""The care for leases that nobody uses now: they are frozen, end, or make room for a session that waits."""

import asyncio
from collections.abc import Callable

import structlog

from ..core.clock import Clock
from ..core.errors import SandboxUnavailable
from ..core.rounds import repeat
from .base import SandboxSpec
from .leases import Lease, Leases

_ROUND_S = 1.0

_log = structlog.get_logger("greenroom.sandboxes")


class Upkeep:
    """Rounds over the leases of a machine. `end` ends one, for a reason; it must not wait."""

    def __init__(self, leases: Leases, spec: SandboxSpec, end: Callable[[Lease, str], object], *, clock: Clock) -> None:
        self._leases = leases
        self._spec = spec
        self._end = end
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        spec = self._spec
        rest_s = min([_ROUND_S, spec.idle_s / 4, *(each / 2 for each in (spec.freeze_s, spec.spare_s) if each)])
        await repeat(self._round, lambda: self._clock.sleep(rest_s), name="sandboxes")

    def make_room(self) -> None:
        """For each session that waits end a lease that was idle for a while, the longest idle first."""
        wanted = self._leases.wanting
        if wanted <= 0:
            return
        latest = self._clock.monotonic() - self._spec.spare_s
        spare = [lease for lease in self._leases.held if not lease.users and lease.used_s <= latest]
        for lease in sorted(spare, key=lambda lease: lease.used_s)[:wanted]:
            self._end(lease, "room")

    async def _round(self) -> None:
        spec, now = self._spec, self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for lease in self._leases.held:
                if lease.users:
                    continue
                if now - lease.used_s >= spec.idle_s:
                    self._end(lease, "idle")
                elif now - lease.since_s >= spec.max_lease_s:
                    self._end(lease, "age")
                elif 0 < spec.freeze_s <= now - lease.used_s:
                    group.create_task(self._freeze(lease))
        self.make_room()

    async def _freeze(self, lease: Lease) -> None:
        async with lease.turn:
            if lease.users or lease.frozen or lease.sandbox is None:
                return
            lease.frozen = True  # also where it fails: it is tried again when it was used again
            try:
                await lease.sandbox.pause()
            except SandboxUnavailable as error:
                _log.warning("an idle sandbox could not be frozen", session_id=lease.session_id, reason=error.message)
