"""Processes of a command: how one is started, how everything it left behind is killed.

The agent is process 1 of its namespace. That makes `kill(-1)` mean "everything but me", atomically
against forks, and brings every orphan to it for burial: a daemon that called setsid is gone too.
"""

import contextlib
import ctypes
import os
import signal

SHELL = "/bin/sh"
AGENT_PID = 1
COMMAND_OOM_SCORE = b"1000"
CANNOT_START = 126
_PR_SET_DUMPABLE = 4
_FIRST_INHERITED_FD = 3
_LAST_FD = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Program(BaseException):
    """Raised in a fork of the agent to unwind it: what follows is this Python program and nothing else.

    Unwinding to the top lets the interpreter end in the ordinary way, with threads joined, `atexit`
    run and open files flushed.
    """

    def __init__(self, source: bytes) -> None:
        super().__init__()
        self.source = source


def set_dumpable(*, value: bool) -> None:
    """Whether processes of the same user may look into this one."""
    _libc.prctl(_PR_SET_DUMPABLE, int(value), 0, 0, 0)


class Starter:
    """Starts commands, each in a session of its own and marked as the first to go when memory runs out."""

    def __init__(self) -> None:
        # Opened while this process may still write its own: see `set_dumpable`.
        self._oom_score_fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)

    def start(self, kind: str, text: bytes) -> tuple[int, int]:
        """Start a shell command or a Python program: its process id, and where to read its output, not blocking.

        In the child of a Python program this raises `Program` instead of returning. Raises OSError, and
        ValueError for a command with a NUL in it.
        """
        output_fd, child_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output_fd, False)
        try:
            # What is started inherits the mark. The kernel then ends it, and not the agent.
            os.pwrite(self._oom_score_fd, COMMAND_OOM_SCORE, 0)
            pid = _start_shell(text, child_fd) if kind == "shell" else _fork_program(text, child_fd)
        except (OSError, ValueError):
            os.close(output_fd)
            raise
        finally:
            # Not in a child: there these numbers mean nothing any more, and `Program` passes by.
            if os.getpid() == AGENT_PID:
                os.pwrite(self._oom_score_fd, b"0", 0)
                os.close(child_fd)
        return pid, output_fd


def _start_shell(text: bytes, output_fd: int) -> int:
    # Without a copy of the agent's memory, which would be most of the cost of a short command.
    return os.posix_spawn(
        SHELL,
        ["sh", "-c", os.fsdecode(text)],
        os.environ,  # noqa: TID251  it is the sandbox's own, set by bubblewrap
        file_actions=[(os.POSIX_SPAWN_DUP2, output_fd, 1), (os.POSIX_SPAWN_DUP2, output_fd, 2)],
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ],
    )


def _fork_program(source: bytes, output_fd: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        os.closerange(_FIRST_INHERITED_FD, _LAST_FD)
        set_dumpable(value=True)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except BaseException:  # noqa: BLE001  a child must never run on as a second agent
        os._exit(CANNOT_START)
    raise Program(source)


def sweep(main_pid: int) -> int | None:
    """Kill everything but the agent and wait for its end; the status of `main_pid` where it was among them."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    status: int | None = None
    while True:
        try:
            pid, pid_status = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == main_pid:
            status = pid_status


def reap(main_pid: int | None) -> int | None:
    """Bury what has ended; the status of `main_pid` where it was among them."""
    status: int | None = None
    while True:
        try:
            pid, pid_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == main_pid:
            status = pid_status
