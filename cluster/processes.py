"""Processes of this machine: which one a pid means, and how to end those that a run has started."""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RUN_MARK = "GREENROOM_RUN"
"""Environment variable that every process of a run inherits, with the run's id."""

_PROC = Path("/proc")
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A process, and not whatever gets its pid later: `started` is its start in clock ticks since boot."""

    pid: int
    started: int

    def is_alive(self) -> bool:
        return process(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it is still there."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def process(pid: int) -> Process | None:
    """The running process of that pid; a zombie is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything, so fields are counted from its end.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def of_run(run_id: str) -> list[Process]:
    """Every process that carries the mark of this run, but not the caller."""
    mark = f"{RUN_MARK}={run_id}".encode()
    found: list[Process] = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            marked = mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
        if marked and (found_one := process(int(folder.name))) is not None:
            found.append(found_one)
    return found


def end(processes: Iterable[Process], *, grace_s: float) -> int:
    """Ask each to end, and after the grace make it. Returns how many had to be made."""
    asked = list(processes)
    for one in asked:
        one.send(signal.SIGTERM)
    if wait_until(lambda: not any(one.is_alive() for one in asked), timeout_s=grace_s):
        return 0
    stubborn = [one for one in asked if one.is_alive()]
    for one in stubborn:
        one.send(signal.SIGKILL)
    wait_until(lambda: not any(one.is_alive() for one in stubborn), timeout_s=5.0)
    return len(stubborn)


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
