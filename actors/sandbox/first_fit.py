"""The first of several backends that reaches a required level. Those after it are not even made."""

from collections.abc import Callable, Sequence

from .base import Capability, Level, Limits, Missing, Sandbox, SandboxBackend
from .unavailable import unavailable

MakeBackend = Callable[[], SandboxBackend]


class FirstFitBackend:
    """A `SandboxBackend` that stands for another one, found by `probe` and before anything else is done.

    What no probe reached is reported of all of them, under the name of the strongest.
    """

    def __init__(self, makers: Sequence[MakeBackend], require: Level) -> None:
        self._makers = tuple(makers)
        self._require = require
        self._chosen: SandboxBackend | None = None
        self._missing: tuple[Missing, ...] = ()

    async def probe(self) -> Capability:
        if self._chosen:
            return await self._chosen.probe()
        found: list[Capability] = []
        for make in self._makers:
            backend = make()
            try:
                capability = await backend.probe()
            except BaseException:  # whoever waited has given up, and nobody else knows of this backend
                await backend.aclose()
                raise
            if capability.level.reaches(self._require):
                self._chosen = backend
                return capability
            await backend.aclose()
            found.append(capability)
        self._missing = tuple(gap for each in found for gap in _gaps(each))
        strongest = max(found, key=lambda each: list(Level).index(each.level))
        return Capability(strongest.backend, strongest.level, strongest.limits, self._missing)

    async def build(self) -> str:
        return await (await self._backend()).build()

    async def create(self, limits: Limits) -> Sandbox:
        return await (await self._backend()).create(limits)

    async def aclose(self) -> None:
        if self._chosen:
            await self._chosen.aclose()

    async def _backend(self) -> SandboxBackend:
        """Raises SandboxUnavailable with all that is missing."""
        if self._chosen is None:
            await self.probe()
        if self._chosen is None:
            raise unavailable(*self._missing)
        return self._chosen


def _gaps(capability: Capability) -> tuple[Missing, ...]:
    if capability.level is Level.NONE:
        return tuple(Missing(f"{capability.backend}: {gap.what}", gap.fix) for gap in capability.missing)
    fix = "lower GREENROOM_SANDBOX_MIN_LEVEL, or mend what else is named here"
    return (Missing(f"{capability.backend}: more than level {capability.level}", fix),)
