"""Processes of a command: how one is started, how everything it left behind is killed.

The agent is process 1 of its namespace. That makes `kill(-1)` mean "everything but me", atomically
against forks, and brings every orphan to it for burial: a daemon that called setsid is gone too.
"""

import contextlib
import ctypes
import os
import signal
import time

from .interpreter import Interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:  # as in the agent
    from collections.abc import Generator
    from typing import Any

SHELL = "/bin/sh"
AGENT_PID = 1
COMMAND_OOM_SCORE = b"1000"
CANNOT_START = 126
_PR_SET_DUMPABLE = 4
_FIRST_INHERITED_FD = 3
_LAST_FD = 1 << 20
_SWEEP_S = 2.0
_SWEEP_POLL_S = 0.0005

_libc = ctypes.CDLL(None, use_errno=True)


class Program(BaseException):
    """Raised in a fork of the agent to unwind it: what follows is Python of tools and nothing else.

    Unwinding to the top lets the interpreter end in the ordinary way, with threads joined, `atexit`
    run and open files flushed. `run` is the function of `program.py` to call.
    """

    def __init__(self, run: str, *arguments: "Any") -> None:
        super().__init__()
        self.run = run
        self.arguments = arguments


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
        with self._marked((child_fd,), (output_fd,)):
            os.set_blocking(output_fd, False)
            pid = _start_shell(text, child_fd) if kind == "shell" else _fork(Program("run", text), child_fd)
        return pid, output_fd

    def start_interpreter(self) -> Interpreter:
        """Start the interpreter that lasts. In its own process this raises `Program`. Raises OSError."""
        output_fd, child_fd = os.pipe2(os.O_CLOEXEC)
        child_requests_fd, requests_fd = os.pipe2(os.O_CLOEXEC)
        answers_fd, child_answers_fd = os.pipe2(os.O_CLOEXEC)
        source_fd = os.memfd_create("program")
        theirs = (child_requests_fd, child_answers_fd, source_fd)
        with self._marked((child_fd, *theirs[:2]), (output_fd, requests_fd, answers_fd, source_fd)):
            for fd in (output_fd, requests_fd, answers_fd):
                os.set_blocking(fd, False)
            pid = _fork(Program("keep", *theirs), child_fd, theirs)
        return Interpreter(pid, output_fd, requests_fd, answers_fd, source_fd)

    @contextlib.contextmanager
    def _marked(self, theirs: tuple[int, ...], ours: tuple[int, ...]) -> "Generator[None]":
        """What is started in here inherits the mark: the kernel then ends it, and not the agent.

        Descriptors that are `theirs` are closed at the end, and `ours` where the start failed.
        """
        try:
            os.pwrite(self._oom_score_fd, COMMAND_OOM_SCORE, 0)
            yield
        except (OSError, ValueError):
            for fd in ours:
                os.close(fd)
            raise
        finally:
            # Not in a child: there these numbers mean nothing any more, and `Program` passes by.
            if os.getpid() == AGENT_PID:
                os.pwrite(self._oom_score_fd, b"0", 0)
                for fd in theirs:
                    os.close(fd)


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


def _fork(program: Program, output_fd: int, kept_fds: tuple[int, ...] = ()) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        first = _FIRST_INHERITED_FD
        for fd in sorted(kept_fds):
            os.closerange(first, fd)
            first = fd + 1
        os.closerange(first, _LAST_FD)
        set_dumpable(value=True)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except BaseException:  # noqa: BLE001  a child must never run on as a second agent
        os._exit(CANNOT_START)
    raise program


def sweep(spared: int | None = None) -> dict[int, int]:
    """Kill everything but the agent, and but a `spared` process, which stands still from here on.

    Returns the status of each process that was buried, by its id. `spared` is among them where it could not be had
    without the others.
    """
    if spared is not None and _kill_others(spared):
        return reap()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    return _buried(0)


def reap() -> dict[int, int]:
    """Bury what has ended: the status of each process, by its id."""
    return _buried(os.WNOHANG)


def _buried(options: int) -> dict[int, int]:
    statuses: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, options)
        except ChildProcessError:
            return statuses
        if pid == 0:
            return statuses
        statuses[pid] = status


def _kill_others(spared: int) -> bool:
    """Whether nothing is alive but the agent and `spared`.

    What is stopped starts nothing, so what is found alive then is all there is. Two that wake each other all the
    time can slip through a look, when one ends and leaves another behind between the list and the look at each: that
    other is new in the next list. So it takes two lists that are the same, and has an end.
    """
    deadline = time.monotonic() + _SWEEP_S
    seen: list[int] | None = None
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGSTOP)
        others = _others(spared)
        alive = [pid for pid in others if _is_alive(pid)]
        if not alive:
            if others == seen:
                return True
            seen = others
            continue
        seen = None
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_SWEEP_POLL_S)  # what was killed is gone in a moment, and nobody tells
    return False


def _others(spared: int) -> list[int]:
    names = os.listdir("/proc")  # noqa: PTH208  pathlib would cost each start its import
    return [int(name) for name in names if name.isdigit() and int(name) not in (AGENT_PID, spared)]


def _is_alive(pid: int) -> bool:
    # What has ended and is not buried by its parent, which stands still, does no more.
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  as above
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
