"""What a machine without isolation offers in place of sandboxes: the reason."""

import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from ..core.errors import SandboxUnavailable
from .base import Capability, CopyResult, ExecResult, FileSlice, FileStat, Level, Listing, Missing, SandboxStatus

STRONGER = Missing(
    "a stronger backend", "set GREENROOM_SANDBOX to auto, docker or gvisor, or lower GREENROOM_SANDBOX_MIN_LEVEL"
)
"""What is missing where a sandbox is whole and yet too weak."""

_log = logging.getLogger(__name__)


def unavailable(*missing: Missing) -> SandboxUnavailable:
    """The error that says what is missing; `missing_of` reads it again."""
    text = "; ".join(f"{gap.what}: {gap.fix}" for gap in missing)
    return SandboxUnavailable(f"No sandbox can be had. {text}", missing=[[gap.what, gap.fix] for gap in missing])


def missing_of(error: SandboxUnavailable) -> tuple[Missing, ...]:
    """What the error names; where it names nothing, a sandbox, for the reason that it gives."""
    missing = tuple(Missing(what, fix) for what, fix in error.details.get("missing", ()))
    return missing or (Missing("a sandbox", error.message),)


async def reported(backend: str, probe: Callable[[], Awaitable[Capability]]) -> Capability:
    """What `probe` found, or of what it raised that there is no isolation, and why. Never raises."""
    try:
        return await probe()
    except SandboxUnavailable as error:
        return Capability(backend, Level.NONE, missing=missing_of(error))
    except Exception as error:  # noqa: BLE001  a probe reports; nobody is there to catch what it raises
        _log.exception("the sandbox probe failed")
        return Capability(backend, Level.NONE, missing=(Missing("a sandbox", f"the probe failed: {error!r}"),))


class UnavailableSandboxes:
    """`Sandboxes` that refuse every call, naming what is missing and what would mend it."""

    def __init__(self, capability: Capability, require: Level = Level.NAMESPACE) -> None:
        self._capability = capability
        self._require = require

    async def lease(self, session_id: str) -> int:  # noqa: ARG002 - the Protocol's
        self._refuse()

    async def shell(self, *_args: object, **_options: object) -> ExecResult:
        self._refuse()

    async def python(self, *_args: object, **_options: object) -> ExecResult:
        self._refuse()

    async def read(self, *_args: object, **_options: object) -> FileSlice:
        self._refuse()

    async def stat(self, *_args: object, **_options: object) -> FileStat:
        self._refuse()

    async def write(self, *_args: object, **_options: object) -> None:
        self._refuse()

    async def list(self, *_args: object, **_options: object) -> Listing:
        self._refuse()

    async def remove(self, *_args: object, **_options: object) -> None:
        self._refuse()

    async def holds(self, session_id: str) -> bool:  # noqa: ARG002 - the Protocol's
        """No session has one."""
        return False

    async def copy(self, source: str, target: str) -> CopyResult:  # noqa: ARG002 - the Protocol's
        """There is nothing to copy."""
        return CopyResult()

    async def interrupt(self, session_id: str) -> None:
        """Nothing runs."""

    async def release(self, session_id: str) -> None:
        """There is nothing to release."""

    async def status(self) -> SandboxStatus:
        return SandboxStatus(self._capability)

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _refuse(self) -> NoReturn:
        missing = self._capability.missing or (STRONGER,)
        gaps = [f"{gap.what} (fix: {gap.fix})" for gap in missing]
        raise SandboxUnavailable(
            f"No sandbox can be had: {self._capability.backend} reaches isolation level {self._capability.level}, and "
            f"{self._require} is required. Missing: {'; '.join(gaps)}.",
            missing=[[gap.what, gap.fix] for gap in missing],
        )
