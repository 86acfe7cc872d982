"""The processes of a run: found by the folder that they work in, told apart by their titles."""

import signal
from collections.abc import Sequence
from pathlib import Path

from cluster import processes
from cluster.processes import Process

_TITLES = {
    "session actor": "ray::SessionActor",
    "directory actor": "ray::DirectoryActor",
    "sandbox actor": "ray::SandboxActor",
    "memory actor": "ray::MemoryActor",
    "replica": "ray::ServeReplica:greenroom:Api",
    "haproxy manager": "ray::HAProxyManager",
    "serve controller": "ray::ServeController",
}
_PROC = Path("/proc")


def working_in(folder: Path) -> list[Process]:
    """Every process whose working directory is that folder. Ray's processes write over their environment,
    in which others carry the mark of their run."""
    found: list[Process] = []
    for entry in _PROC.iterdir():
        try:
            inside = entry.name.isdigit() and (entry / "cwd").readlink() == folder
        except OSError:
            continue  # it ended meanwhile
        if inside and (one := processes.process(int(entry.name))) is not None:
            found.append(one)
    return found


def of_kind(kind: str, folder: Path) -> list[Process]:
    """The live processes of a kind in a run, in the order of their pids."""
    if kind == "haproxy":
        chosen = [one for one in working_in(folder) if _command(one)[:1] == ["haproxy"]]
    else:
        title = _TITLES[kind]
        chosen = [one for one in working_in(folder) if " ".join(_command(one)).startswith(title)]
    return sorted(chosen, key=lambda one: one.pid)


def _command(one: Process) -> list[str]:
    try:
        words = (_PROC / str(one.pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return [Path(words[0]).name, *words[1:]] if not words[0].startswith("ray::") else words


def end_all(found: Sequence[Process]) -> int:
    """End them, those that stand still too. Returns how many had to be killed."""
    for one in found:
        one.send(signal.SIGCONT)
    return processes.end(found, grace_s=3.0)
