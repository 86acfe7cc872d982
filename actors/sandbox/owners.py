"""Who made a container or a control group: a process of this machine, named so that none later is taken for it."""

import os
from pathlib import Path

_START_TIME = 21 - 2
"""Place of a process's start time in its status, counted from behind the name, which may hold anything."""


def this_process() -> str:
    """Boot, namespace of process ids, process id and start time."""
    return f"{_place()}:{os.getpid()}:{_start_time(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether that process has ended. One of a place that cannot be seen from here may well live: False."""
    process_of, _, started = owner.rpartition(":")
    place, _, process = process_of.rpartition(":")
    if not place or not process.isdigit():
        return False
    if not place.startswith(f"{_boot()}:"):
        return True  # the daemon is this machine's own, so another boot was an earlier one
    return place == _place() and _start_time(int(process)) != started


def this_process_here() -> str:
    """As `this_process`, for what does not outlive a boot, and fit to be part of a file's name."""
    return f"{_namespace()}.{os.getpid()}.{_start_time(os.getpid())}"


def is_gone_here(owner: str) -> bool:
    """`is_gone` for what `this_process_here` named."""
    namespace, _, process_of = owner.partition(".")
    process, _, started = process_of.partition(".")
    return namespace == str(_namespace()) and process.isdigit() and _start_time(int(process)) != started


def _place() -> str:
    return f"{_boot()}:{_namespace()}"


def _namespace() -> int:
    """Of process ids: numbers mean something within one only."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> str | None:
    """In ticks since the boot; None where there is no such process, or nothing of it but its exit code."""
    try:
        status = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[_START_TIME]
