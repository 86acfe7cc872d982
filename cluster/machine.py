"""Checks of the machine: home folder, ports, memory, disk, limits."""

import os
import resource
import shutil
from pathlib import Path

from actors.core.settings import Settings

from . import ports, run_state
from .finding import Finding

_GIB = 1024**3
MEMORY_NEEDED, MEMORY_GOOD = 1.5 * _GIB, 3 * _GIB
DISK_NEEDED, DISK_GOOD = 0.5 * _GIB, 5 * _GIB
_OPEN_FILES = 4096


def home(settings: Settings) -> Finding:
    """Whether the folder, or the nearest one above it that exists, can be written."""
    folder = settings.home_dir
    above = _existing(folder)
    if not os.access(above, os.W_OK | os.X_OK):
        return Finding("Home folder", "missing", f"{above} cannot be written", "choose another with --home FOLDER")
    return Finding("Home folder", "fine", f"{folder}{'' if folder.exists() else ', made at the first start'}")


def http_port(settings: Settings) -> Finding:
    return _port("HTTP port", settings, settings.host, settings.port, "--port")


def dashboard_port(settings: Settings) -> Finding:
    return _port("Dashboard port", settings, "127.0.0.1", settings.dashboard_port, "--dashboard-port")


def _port(name: str, settings: Settings, host: str, number: int, option: str) -> Finding:
    if run_state.running(settings.home_dir) is not None:
        return Finding(name, "fine", f"Greenroom runs already in {settings.home_dir}")
    try:
        free = ports.is_free(host, number)
    except OSError as error:
        return Finding(name, "missing", f"{host}: {error.strerror}", "choose an address of this machine with --host")
    if free:
        return Finding(name, "fine", f"{number} on {host} is free")
    fix = f"greenroom up {option} {ports.next_free(host, number + 1)}"
    if option == "--port":
        return Finding(name, "missing", f"{number} on {host} is taken", fix)
    return Finding(name, "fine", f"{number} is taken; the next free one is used")


def memory(_settings: Settings) -> Finding:
    available = min(_available_memory(), _control_group_room())
    found = f"{available / _GIB:.1f} GiB available"
    if available < MEMORY_NEEDED:
        return Finding("Memory", "missing", found, f"{MEMORY_NEEDED / _GIB:.1f} GiB are needed; end other programs")
    if available < MEMORY_GOOD:
        return Finding("Memory", "weak", found, "greenroom up --no-dashboard saves 200 MB")
    return Finding("Memory", "fine", found)


def _available_memory() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return float("inf")


def _control_group_room() -> float:
    """What the container may still use; without a limit, infinity."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used


def home_disk(settings: Settings) -> Finding:
    return _disk("Disk", settings.home_dir)


def temporary_disk(_settings: Settings) -> Finding:
    return _disk("Disk of /tmp", Path("/tmp"))  # noqa: S108 - looked at, not written


def _disk(name: str, folder: Path) -> Finding:
    above = _existing(folder)
    free = shutil.disk_usage(above).free
    found = f"{free / _GIB:.1f} GiB free at {above}"
    if free < DISK_NEEDED:
        return Finding(name, "missing", found, f"make room: {DISK_NEEDED / _GIB:.1f} GiB are needed")
    if free < DISK_GOOD:
        return Finding(name, "weak", found, "Ray complains below 5 % of a disk; make room")
    return Finding(name, "fine", found)


def open_files(_settings: Settings) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _OPEN_FILES and hard != resource.RLIM_INFINITY and hard < _OPEN_FILES:
        return Finding("Open files", "weak", f"{soft} at most", f"ulimit -n {_OPEN_FILES}, for many clients at once")
    return Finding("Open files", "fine", f"{soft} at most")


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


CHECKS = (home, http_port, dashboard_port, memory, home_disk, temporary_disk, open_files)
