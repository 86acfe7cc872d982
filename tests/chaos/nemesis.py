"""One fault after the other, with recovery in between; what was done, and how long the cluster took."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from .faults import Faults, NotInjected
from .nodes import NodeLost
from .schedule import Step
from .testbed import WORKERS, Testbed

RECOVERY_S = 120.0
WHOLE_S = 3.0
"""The cluster counts as recovered when it was whole for so long: some die of a fault only seconds later."""

_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault that was done, or tried. `recovered_s` is None when the cluster was not whole again in time."""

    kind: str
    at: datetime
    target: str
    recovered_s: float | None
    says: str = ""
    """What was missing when recovery was given up, or why the fault was not done."""
    injected: bool = True
    missed: tuple[tuple[float, str], ...] = ()
    """What was missing on the way back, from how many seconds on."""


class Nemesis:
    """`probe` has to succeed for the cluster to count as recovered: a message that is answered."""

    def __init__(self, bed: Testbed, http: httpx.AsyncClient, probe: Callable[[], Awaitable[bool]]) -> None:
        self._bed = bed
        self._http = http
        self._probe = probe
        self._faults = Faults(bed)
        self._missed: list[tuple[float, str]] = []
        self._recovered_s = 0.0
        self.strikes: list[Strike] = []

    async def rage(self, steps: Iterator[Step], until: Callable[[], bool], tell: Callable[[Strike], None]) -> None:
        for step in steps:
            await asyncio.sleep(step.pause_s)
            if until():
                return
            strike = await self.strike(step)
            self.strikes.append(strike)
            tell(strike)

    async def strike(self, step: Step) -> Strike:
        begun = time.time()
        injected, says = True, ""
        try:
            target = await self._faults.inject(step)
        except NotInjected as error:
            target, says, injected = "", str(error), False
        missing = await self.recover()
        recovered_s = None if missing else self._recovered_s
        at = datetime.fromtimestamp(self._faults.struck_at or begun, UTC)
        says = "; ".join(filter(None, (says, missing)))
        return Strike(step.kind, at, target, recovered_s, says, injected, tuple(self._missed))

    async def recover(self) -> str | None:
        """Bring back what an operator would, and wait until all is whole. What is missing when that takes too long."""
        begun = whole_since = time.monotonic()
        self._missed = []
        while True:
            missing, now = await self._missing(), time.monotonic()
            if missing is not None:
                whole_since = now
                if not self._missed or self._missed[-1][1] != missing:
                    self._missed.append((round(now - begun, 1), missing))
            if now - whole_since >= WHOLE_S or now - begun > RECOVERY_S:
                self._recovered_s = whole_since - begun
                return missing
            await asyncio.sleep(_LOOK_S)

    async def _missing(self) -> str | None:
        try:
            await self._bed.nodes.mend()
        except NodeLost as error:
            return str(error)
        if len(self._bed.nodes.raylets) < WORKERS or self._bed.nodes.gcs is None:
            return f"Ray's processes: gcs {self._bed.nodes.gcs}, raylets {self._bed.nodes.raylets}"
        for kind, least in (("session actor", 3), ("directory actor", 1), ("sandbox actor", 1), ("replica", 2)):
            if len(found := self._bed.found(kind)) < least:
                return f"{len(found)} of {least} processes: {kind}"
        if (unhealthy := await self._unhealthy()) is not None:
            return unhealthy
        return None if await self._probe() else "a message was not answered"

    async def _unhealthy(self) -> str | None:
        try:
            response = await self._http.get("/health", timeout=10)
        except httpx.TransportError as error:
            return f"/health: {error!r}"
        try:
            checks = response.json()["checks"]
        except (ValueError, LookupError):
            return f"/health answered {response.status_code}: {response.text[:200]}"
        needed = [check for check in checks if check["name"] in ("database", "sessions", "sandbox")]
        unwell = [f"{check['name']}: {check['message']}" for check in needed if check["status"] != "healthy"]
        return "; ".join(unwell) or None
