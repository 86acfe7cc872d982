"""What the kernel counts of a sandbox in its control groups: read from outside, where nothing inside can change it."""

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Version: TypeAlias = Literal[1, 2]

OOM_EVENTS: Mapping[Version, str] = {1: "memory.oom_control", 2: "memory.events"}
_PEAK: Mapping[Version, str] = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}
_PIDS_EVENTS = "pids.events"
_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Counts:
    """A reading. `oom_kills` are processes that were ended for want of memory, `forks_refused` those that were not
    started because there were too many; 0 where nobody counts them. The others are None there."""

    oom_kills: int = 0
    forks_refused: int = 0
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None


class Counters:
    """The counters of one group. `folders` are its folders by controller: memory, pids, and cpu or cpuacct."""

    def __init__(self, version: Version, folders: Mapping[str, Path]) -> None:
        self._version: Version = version
        self._folders = folders
        self._peak_fd: int | None = None
        self._peak_before: int | None = None
        self._lock = threading.Lock()  # guards `_peak_fd`: its number may be another file's as soon as it is closed

    def begin(self) -> Counts:
        """Read them, and count the peak of memory anew from here on."""
        self._peak_before = None
        if not self._reset_peak():
            # An older kernel keeps one peak for ever: only a higher one can be told from it.
            self._peak_before = self._peak()
        return self.read()

    def read(self) -> Counts:
        peak = self._peak()
        return Counts(
            oom_kills=_member(self._text("memory", OOM_EVENTS[self._version]), "oom_kill") or 0,
            forks_refused=_member(self._text("pids", _PIDS_EVENTS), "max") or 0,
            cpu_s=self._cpu_s(),
            peak_memory_bytes=None if peak == self._peak_before else peak,
        )

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._peak_fd is not None:
                os.close(self._peak_fd)
                self._peak_fd = None

    def _reset_peak(self) -> bool:
        """Version 1 has one peak for all readers; in version 2 it is begun anew for one descriptor."""
        folder = self._folders.get("memory")
        if folder is None:
            return False
        with self._lock, contextlib.suppress(OSError):
            if self._peak_fd is None:
                self._peak_fd = os.open(folder / _PEAK[self._version], os.O_RDWR | os.O_CLOEXEC)
            os.pwrite(self._peak_fd, b"0", 0)
            return True
        return False

    def _peak(self) -> int | None:
        with self._lock, contextlib.suppress(OSError):
            if self._peak_fd is not None:
                return _number(os.pread(self._peak_fd, _FILE_BYTES, 0))
        return _number(self._text("memory", _PEAK[self._version]))

    def _cpu_s(self) -> float | None:
        if self._version == 1:
            nanoseconds = _number(self._text("cpuacct", "cpuacct.usage"))
            return None if nanoseconds is None else nanoseconds / 1e9
        microseconds = _member(self._text("cpu", "cpu.stat"), "usage_usec")
        return None if microseconds is None else microseconds / 1e6

    def _text(self, controller: str, file: str) -> bytes:
        folder = self._folders.get(controller)
        if folder is None:
            return b""
        try:
            # By descriptor, because this is done twice for each command.
            fd = os.open(folder / file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.read(fd, _FILE_BYTES)
        except OSError:
            return b""
        finally:
            os.close(fd)


def _number(text: bytes) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _member(text: bytes, name: str) -> int | None:
    """A number of a file that has a name and a number in each line."""
    for line in text.splitlines():
        key, _, value = line.partition(b" ")
        if key == name.encode():
            return _number(value)
    return None
