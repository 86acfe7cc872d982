"""A running bubblewrap: started by the launcher, with its control group, and ended for certain."""

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cgroups import ControlGroup
from .counts import Counts
from .freezer import Freezer, tell
from .room import Room
from .spawner import Spawned, Spawner, steps_of

_END_S = 5.0
_END_POLL_S = 0.002
_MESSAGE_BYTES = 4096
_SECCOMP_FD, _INFO_FD = 3, 4
"""As bubblewrap sees them: the spawner counts from 3 on."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one: the command line without the descriptors, the filter, and what to be bound by.

    `uid` is the user to become, None to stay who we are. `group` is None where there are no control groups.
    """

    bwrap: Path
    options: Sequence[str]
    command: Sequence[str]
    seccomp: bytes
    limits: Sequence[tuple[int, int]]
    uid: int | None
    group: ControlGroup | None

    def steps(self, seccomp_fd: int, info_fd: int) -> list[str]:
        return [
            *steps_of(self.uid, self.group, self.limits),
            str(self.bwrap), "--seccomp", str(seccomp_fd), "--info-fd", str(info_fd), *self.options, "--",
            *self.command,
        ]  # fmt: skip


def process_limits(*, file_bytes: int, open_files: int, address_space: int | None) -> list[tuple[int, int]]:
    """Limits of each process. Those of the whole sandbox are the control group's."""
    limits = [(resource.RLIMIT_FSIZE, file_bytes), (resource.RLIMIT_NOFILE, open_files), (resource.RLIMIT_CORE, 0)]
    if address_space is not None:
        limits.append((resource.RLIMIT_AS, address_space))
    return limits


class Jail:
    """The processes of one sandbox, seen from outside. Not for the event loop: its methods block for a moment.

    It dies with the spawner, and that with the *thread* that first used it, so `start` belongs on a thread that lives
    as long as the host. `lifeline` is whatever keeps that thread: an executor that is forgotten would end it.
    """

    def __init__(
        self,
        process: Spawned,
        group: ControlGroup | None,
        stderr_fd: int,
        info_fd: int,
        lifeline: object,
    ) -> None:
        self._process = process
        self._lifeline = lifeline
        self._group = group
        self._stderr_fd = stderr_fd
        self._info_fd = info_fd
        self._init_fd: int | None = None
        self._room: Room | None = None
        self._ending = threading.Lock()  # guards `_ended`: a second caller waits until the first has done it
        self._ended = False

    @classmethod
    def start(cls, launch: Launch, control: socket.socket, spawner: Spawner, lifeline: object) -> "Jail":
        """Start it with `control` as standard input. Raises OSError."""
        seccomp_fd = os.memfd_create("seccomp")
        stderr_fd = os.memfd_create("stderr")
        info_fd, info_write_fd = os.pipe2(os.O_CLOEXEC)
        try:
            # The filter is read to its end and the offset is shared: each start needs a descriptor of its own.
            os.write(seccomp_fd, launch.seccomp)
            os.lseek(seccomp_fd, 0, os.SEEK_SET)
            fds = (control.fileno(), stderr_fd, seccomp_fd, info_write_fd)
            process = spawner.start(launch.steps(_SECCOMP_FD, _INFO_FD), fds)
        except BaseException:
            os.close(stderr_fd)
            os.close(info_fd)
            raise
        finally:
            os.close(seccomp_fd)
            os.close(info_write_fd)
        return cls(process, launch.group, stderr_fd, info_fd, (spawner, lifeline))

    @property
    def ended(self) -> bool:
        return self._ended

    def identify(self) -> int:
        """Learn who process 1 inside is; to be called once it is ready. Returns its process id on this host."""
        text = os.read(self._info_fd, _MESSAGE_BYTES).decode()
        # Not json: bubblewrap writes the object in parts, of which the first holds what is needed.
        pid = int(text.partition('"child-pid":')[2].strip().split(",")[0].split("\n")[0].rstrip("} "))
        self._init_fd = os.pidfd_open(pid)
        self._room = Room.of(pid)
        return pid

    def limit_cpu(self) -> None:
        """Bound processor time from now on. Raises OSError."""
        if self._group:
            self._group.limit_cpu()

    def begin(self) -> Counts:
        return self._group.counters.begin() if self._group else Counts()

    def counts(self) -> Counts:
        return self._group.counters.read() if self._group else Counts()

    def is_full(self) -> bool | None:
        return self._room.is_full() if self._room and not self._ended else None

    def freeze(self) -> None:
        self._tell(Freezer.freeze)

    def thaw(self) -> None:
        self._tell(Freezer.thaw)

    def _tell(self, step: Callable[[Freezer], None]) -> None:
        with self._ending:
            if self._group and not self._ended:
                tell(self._group.freezer, step)

    def message(self) -> str:
        """What launcher and bubblewrap said on their standard error."""
        return os.pread(self._stderr_fd, _MESSAGE_BYTES, 0).decode("utf-8", "replace").strip()

    def end(self) -> None:
        """Kill everything, wait until it is gone, remove the group. Idempotent.

        When process 1 dies the kernel kills its whole namespace, and bubblewrap outside, which waits for
        process 1, ends after all of that. So the end of bubblewrap says that nothing is left.
        """
        with self._ending:
            if not self._ended:
                self._end()
                self._ended = True

    def _end(self) -> None:
        deadline = time.monotonic() + _END_S
        self._kill()
        if not self._process.wait(_END_S):
            self._process.kill()
            self._process.wait(_END_S)
        self._process.close()
        if self._room:
            self._room.close()
        while self._group and not self._group.remove() and time.monotonic() < deadline:
            self._group.kill()
            time.sleep(_END_POLL_S)
        for fd in (self._stderr_fd, self._info_fd, self._init_fd):
            if fd is not None:
                os.close(fd)

    def _kill(self) -> None:
        if self._init_fd is None:
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)
        if self._group:
            self._group.kill()
