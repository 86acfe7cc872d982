"""A running container as the enclosure of a sandbox: what it must be like, and its end for certain."""

import logging
import threading
from pathlib import Path
from typing import Any

from .base import Limits
from .cgroups import ControlGroup
from .counts import Counts
from .docker_engine import DockerEngine, EngineError
from .inside.bridge import FOLDER
from .interior import writable_folders
from .room import Room

_PERIOD_US = 100_000
_BYTES_PER_INODE = 4096
_LEAST_INODES = 4096
# What an engine hides by itself, and all of /sys: it describes the machine.
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys",
)  # fmt: skip

_log = logging.getLogger(__name__)


def host_config(limits: Limits, *, uid: int, seccomp: str, way_out: Path | None = None) -> dict[str, Any]:
    """The part of a container's settings that holds it. Nothing of this machine is mounted in it but its way out.

    There is no init process of the engine's: the agent is process 1, which no tool can kill.
    """
    memory = limits.memory_bytes
    return {
        "NetworkMode": "none",
        "Dns": ["127.0.0.1"],  # else it is told which servers this machine asks
        "ReadonlyRootfs": True,
        "Mounts": [_read_only(way_out)] if way_out else [],
        "Tmpfs": {folder: _tmpfs(size, uid) for folder, size in writable_folders(limits)},
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp}"],
        "MaskedPaths": list(_MASKED),
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "PidsLimit": limits.pids + 1,  # the agent is one of them
        "Memory": memory,
        "MemorySwap": memory,
        "CpuPeriod": _PERIOD_US,
        "CpuQuota": max(1000, round(limits.cpus * _PERIOD_US)),
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in (("fsize", limits.file_bytes), ("nofile", limits.open_files), ("core", 0))
        ],
        "OomScoreAdj": 0,
        "Init": False,
        "AutoRemove": True,
        "LogConfig": {"Type": "none"},  # else all that the agent says would lie on this machine's disk
    }


def _read_only(way_out: Path) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(way_out), "Target": FOLDER, "ReadOnly": True}


def _tmpfs(size: int, uid: int) -> str:
    inodes = max(_LEAST_INODES, size // _BYTES_PER_INODE)
    return f"rw,exec,nosuid,nodev,size={size},nr_inodes={inodes},mode=0700,uid={uid},gid={uid}"


class Container:
    """The processes of one sandbox, seen from outside. Not for the event loop: its methods block for a moment."""

    def __init__(self, engine: DockerEngine, id_: str, group: ControlGroup | None, room: Room | None) -> None:
        self._engine = engine
        self._id = id_
        self._group = group
        self._room = room
        self._ending = threading.Lock()  # guards `_ended`: a second caller waits until the first has done it
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def counts_memory(self) -> bool:
        """Whether it can be seen from here what was ended for want of memory."""
        return self._group is not None

    def begin(self) -> Counts:
        # Not what the engine says of memory, which tells of the first process only.
        return self._group.counters.begin() if self._group else Counts()

    def counts(self) -> Counts:
        return self._group.counters.read() if self._group else Counts()

    def is_full(self) -> bool | None:
        return self._room.is_full() if self._room and not self._ended else None

    def end(self) -> None:
        """Kill everything and remove the container. Idempotent; where the daemon fails, `ended` stays False."""
        with self._ending:
            if self._ended:
                return
            try:
                self._engine.remove(self._id)
            except EngineError as error:
                # The agent ends when its connection does, and who comes next looks for what was left.
                _log.warning("a container was left to the daemon: %s", error)
            else:
                self._ended = True
                if self._room:
                    self._room.close()
                if self._group:
                    self._group.counters.close()
