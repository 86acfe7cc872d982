"""A running gVisor: its kernel (the sentry), its file server and the `runsc` that holds them, from start to end.

All of it runs as a user without rights, and in no case as root: `runsc` makes itself a user namespace in which it has
what it needs. A hole in gVisor leads to that user, who owns nothing.
"""

import contextlib
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .cgroups import ControlGroup
from .counts import Counts
from .freezer import Freezer, tell
from .gvisor_bundle import Bundle
from .spawner import launcher, steps_of

_END_S = 5.0
_END_POLL_S = 0.002
_MESSAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one. `uid` is the user to become, None to stay who we are; `group` is None where there are none."""

    runsc: Path
    platform: str
    bundle: Bundle
    uid: int | None
    group: ControlGroup | None

    def argv(self) -> list[str]:
        return [
            *launcher(*steps_of(self.uid, self.group, [(resource.RLIMIT_CORE, 0)], mortal=True)),
            str(self.runsc), f"--root={self.bundle.state}", f"--platform={self.platform}", "--rootless",
            "--network=none", "--ignore-cgroups", "--file-access-mounts=exclusive",  # nobody changes the shared tree
            "run", f"--bundle={self.bundle.folder}", self.bundle.folder.name,
        ]  # fmt: skip


class Sentry:
    """The processes of one sandbox, seen from outside. Not for the event loop: its methods block for a moment.

    They die with the *thread* that started them, each by its parent's death, so `start` belongs on a thread that lives
    as long as the host. `lifeline` is whatever keeps that thread.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", launch: Launch, stderr_fd: int, lifeline: object) -> None:
        self._process = process
        self._launch = launch
        self._stderr_fd = stderr_fd
        self._lifeline = lifeline
        self._pidfds: list[int] = []
        self._ending = threading.Lock()  # guards `_ended`: a second caller waits until the first has done it
        self._ended = False

    @classmethod
    def start(cls, launch: Launch, stdin_fd: int, lifeline: object) -> "Sentry":
        """Start it. Raises OSError."""
        stderr_fd = os.memfd_create("stderr")
        try:
            process = subprocess.Popen(
                launch.argv(), stdin=stdin_fd, stdout=subprocess.DEVNULL, stderr=stderr_fd, process_group=0
            )
        except BaseException:
            os.close(stderr_fd)
            raise
        return cls(process, launch, stderr_fd, lifeline)

    @property
    def ended(self) -> bool:
        return self._ended

    def settle(self) -> int:
        """The last steps before tool code may run. Returns the host user that the kernel runs as.

        Raises OSError and ValueError.
        """
        group = self._launch.group
        if group:
            group.limit_cpu()
        pids = self._launch.bundle.processes()
        self._pidfds = [os.pidfd_open(pid) for pid in pids]
        status = Path("/proc", str(pids[0]), "status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:"))

    def wait(self, timeout_s: float) -> int | None:
        """The exit code of what runs in it; None where it still runs after that time."""
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def memory_bytes(self) -> int:
        return self._launch.group.counters.memory_bytes() if self._launch.group else 0

    def begin(self) -> Counts:
        return self._launch.group.counters.begin() if self._launch.group else Counts()

    def counts(self) -> Counts:
        return self._launch.group.counters.read() if self._launch.group else Counts()

    def is_full(self) -> bool | None:
        """None: the folders are gVisor's, of which this machine sees nothing."""
        return None

    def freeze(self) -> None:
        self._tell(Freezer.freeze)

    def thaw(self) -> None:
        self._tell(Freezer.thaw)

    def _tell(self, step: Callable[[Freezer], None]) -> None:
        with self._ending:
            if self._launch.group and not self._ended:
                tell(self._launch.group.freezer, step)

    def message(self) -> str:
        """What launcher and `runsc` said on their standard error."""
        return os.pread(self._stderr_fd, _MESSAGE_BYTES, 0).decode("utf-8", "replace").strip()

    def end(self) -> None:
        """Kill everything, wait until it is gone, remove the group and the bundle. Idempotent."""
        with self._ending:
            if not self._ended:
                self._end()
                self._ended = True

    def _end(self) -> None:
        deadline = time.monotonic() + _END_S
        group = self._launch.group
        if group:
            group.kill()
        # The kernel's death is also that of all that it traces, the programs inside.
        for fd in self._pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        self._process.kill()
        self.wait(_END_S)
        for fd in self._pidfds:
            select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        while group and not group.remove() and time.monotonic() < deadline:
            group.kill()
            time.sleep(_END_POLL_S)  # as for leftovers: nobody tells
        self._launch.bundle.remove()
        for fd in (self._stderr_fd, *self._pidfds):
            os.close(fd)
