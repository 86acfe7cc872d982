"""Starts the processes that hold sandboxes, by a small process that stays: an interpreter is started once, and not for
each of them, and a fork of that small one costs a tenth of it.

It is only a step on the way: what it forks becomes bubblewrap at once, as what was started for one sandbox would.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

from .cgroups import ControlGroup

_LAUNCHER = Path(__file__).with_name("launcher.py")
_ANSWER_S = 20.0
_END_S = 5.0
_ANSWER_BYTES = 16
_FD_BYTES = 4


def launcher(*steps: str) -> list[str]:
    """The command that takes these steps, or that stays and waits for some."""
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *steps]


def steps_of(
    uid: int | None, group: ControlGroup | None, limits: Sequence[tuple[int, int]], *, mortal: bool = False
) -> list[str]:
    """What to do on the way to a command, which is to follow: become that user, in that group, within these limits.

    What is `mortal` is killed when the thread that started it ends.
    """
    entrances = group.entrances if group else ()
    return [
        str(uid or 0), "mortal" if mortal else "",
        ":".join(map(str, entrances)), ",".join(f"{number}={value}" for number, value in limits),
    ]  # fmt: skip


class Spawned:
    """A process that was started. It is known by a descriptor, which no other process can come to have."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        return bool(select.select([self._fd], [], [], timeout_s)[0])

    def close(self) -> None:
        """It is asked no more. To be called once."""
        os.close(self._fd)


class Spawner:
    """Used on one thread. What it has started ends with it, with that thread, and with this process."""

    def __init__(self) -> None:
        self._host: socket.socket | None = None
        self._end: weakref.finalize[..., Spawner] | None = None

    def start(self, steps: Sequence[str], fds: Sequence[int]) -> Spawned:
        """Start what the steps end in. Of `fds` it has the first two as standard input and error, and the others from
        number 3 on. Raises OSError.
        """
        message = "\0".join(steps).encode()
        try:
            return self._ask(message, fds)
        except ConnectionError:
            self.close()  # somebody has ended it, and with it what it had started
            return self._ask(message, fds)

    def close(self) -> None:
        """Idempotent."""
        if self._end:
            self._end()
        self._host = self._end = None

    def _ask(self, message: bytes, fds: Sequence[int]) -> Spawned:
        host = self._host or self._open()
        try:
            socket.send_fds(host, [message], fds)
            # Not `recv_fds`, which drops the flag: another thread may start a program in this very moment.
            _, received, _, _ = host.recvmsg(_ANSWER_BYTES, socket.CMSG_LEN(_FD_BYTES), socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            self.close()  # its answer may still come, and would be taken for that to another question
            raise
        if not received:
            raise ConnectionResetError("the process that starts sandboxes has ended")
        [(_, _, fd)] = received
        return Spawned(int.from_bytes(fd, sys.byteorder))

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                process = subprocess.Popen(
                    launcher(),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        ours.settimeout(_ANSWER_S)
        # Also for whoever forgets this object.
        self._end = weakref.finalize(self, _end, ours, process)
        self._host = ours
        return ours


def _end(ours: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    ours.close()
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
