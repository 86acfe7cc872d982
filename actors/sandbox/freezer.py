"""Stops all that is in a control group, and lets it go on: the freezer of version 1, `cgroup.freeze` of version 2."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import SandboxUnavailable

_DEADLINE_S = 2.0
_POLL_S = 0.001
_FILES = {1: "freezer.state", 2: "cgroup.freeze"}
_FROZEN, _THAWED = "FROZEN", "THAWED"


@dataclass(frozen=True, slots=True)
class Freezer:
    """Of one group, by the file that is written to."""

    file: Path

    @classmethod
    def of(cls, folder: Path, version: int) -> "Freezer":
        return cls(folder / _FILES[version])

    def freeze(self) -> None:
        """Returns when nothing in the group runs. Raises OSError, among them TimeoutError."""
        self._set(frozen=True)

    def thaw(self) -> None:
        """Raises as `freeze` does."""
        self._set(frozen=False)

    def let_die(self) -> None:
        """In version 1 what is frozen does not even die before it is thawed."""
        if self._is_old:
            with contextlib.suppress(OSError):
                self.file.write_text(_THAWED)

    @property
    def _is_old(self) -> bool:
        return self.file.name == _FILES[1]

    def _set(self, *, frozen: bool) -> None:
        old = _FROZEN if frozen else _THAWED
        self.file.write_text(old if self._is_old else str(int(frozen)))
        deadline = time.monotonic() + _DEADLINE_S
        while not self._is(frozen=frozen):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.file} is not as it was told within {_DEADLINE_S:g} s")
            time.sleep(_POLL_S)  # a freezer of version 1 tells nobody when it is done

    def _is(self, *, frozen: bool) -> bool:
        if self._is_old:
            return self.file.read_text().strip() == (_FROZEN if frozen else _THAWED)
        return f"frozen {int(frozen)}" in self.file.with_name("cgroup.events").read_text().splitlines()


def tell(freezer: Freezer | None, step: Callable[[Freezer], None]) -> None:
    """Take the step where there is a freezer. Raises SandboxUnavailable."""
    if freezer:
        try:
            step(freezer)
        except OSError as error:
            raise SandboxUnavailable(f"The sandbox could not be frozen or thawed: {error}") from error


def can_freeze(folder: Path) -> bool:
    """Whether groups of version 2 below the top can be frozen: since Linux 5.2."""
    return (folder / _FILES[2]).exists()
