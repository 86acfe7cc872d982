"""Becomes the first process of a sandbox: joins control groups, sets limits, drops the user, runs what holds it.

A script of its own because these steps must come between fork and exec, and a threaded program may run
no Python there. Its first argument is the parent's pid. With the steps in those that follow it takes them; without, it
stays, and forks for each message on its standard input that holds them: see `spawner.py`.

The steps: the uid to become or 0; "mortal" for a command that dies with the parent's thread and does not see to that
itself; files to write "0" to, joined by ":"; limits as "number=value", joined by ","; then the command.
"""

import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # each module would be a part of the time that a sandbox takes to start
    from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9  # as above: the module `signal` takes as long as all the rest
_MESSAGE_BYTES = 256 * 1024
_MOST_FDS = 16
_STDIN, _, _STDERR, _FIRST_OTHER = range(4)


def take_steps(parent: int, steps: "Sequence[str]") -> None:
    """Does not return. Raises OSError."""
    uid, mortal, groups, limits, *command = steps
    for path in filter(None, groups.split(":")):
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"0")
        os.close(fd)
    for limit in limits.split(","):
        number, value = map(int, limit.split("="))
        _, hard = resource.getrlimit(number)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (ceiling, ceiling))
    _be_ordinary_to_the_oom_killer()
    # Our modules may lie in a home that is closed to the user to come.
    die_with_parent = _mortality() if mortal else None
    if int(uid):
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    if die_with_parent:
        die_with_parent()  # the change of user would have undone it
    if os.getppid() != parent:
        raise OSError("the process that asked for a sandbox is gone")
    os.execve(command[0], command, {})  # noqa: S606  no environment: what the host has in it is no business of tools


def serve(parent: int) -> None:
    """Fork for each message, and answer with a descriptor of the process; until the host is gone. Raises OSError.

    With a message come the standard input and error of the process, and what else it is to have, from number 3 on.
    """
    import signal  # noqa: PLC0415  as above: once is enough
    import socket  # noqa: PLC0415

    _mortality()()
    if os.getppid() != parent:
        return
    _be_ordinary_to_the_oom_killer()  # with this one all that it has started would end
    signal.signal(signal.SIGCHLD, lambda _number, _frame: _bury())
    host, own_pid = socket.socket(fileno=os.dup(_STDIN)), os.getpid()
    while True:
        message, fds, _, _ = socket.recv_fds(host, _MESSAGE_BYTES, _MOST_FDS)
        if not message:
            return
        # Else it might be buried before there is a descriptor of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
            os.setpgid(0, 0)
            _run(own_pid, message.decode().split("\0"), fds)
        process_fd = os.pidfd_open(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        socket.send_fds(host, [b"started"], [process_fd])
        for fd in (*fds, process_fd):
            os.close(fd)


def _place(fds: "Sequence[int]") -> None:
    # Out of the way of the numbers that they are to have.
    least = _FIRST_OTHER + len(fds)
    stdin, stderr, *others = [_moved(fd, least) for fd in fds]
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number, fd in enumerate((stdin, nothing, stderr, *others)):
        os.dup2(fd, number)


def _moved(fd: int, least: int) -> int:
    import fcntl  # noqa: PLC0415  as above

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(fd)  # `recv_fds` leaves it open to what is run
    return moved


def _bury() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(parent: int, steps: "Sequence[str]", fds: "Sequence[int]") -> None:
    """Does not return; says on standard error what it could not do."""
    try:
        _place(fds)
        take_steps(parent, steps)
    except (OSError, ValueError) as error:
        os.write(_STDERR, f"launcher: {error}\n".encode())
    finally:
        os._exit(1)


def _mortality() -> "Callable[[], None]":
    """What makes this process die with the thread that started it."""
    import ctypes  # noqa: PLC0415  it would cost those their time who need it not

    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_parent() -> None:
        if libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot be bound to its parent")

    return die_with_parent


def _be_ordinary_to_the_oom_killer() -> None:
    # Ray marks its workers as the first to die; the agent must outlive the commands that it starts.
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, b"0")
    except PermissionError:
        pass  # somebody with more rights has set it; then the sandbox may be lost when it is out of memory
    finally:
        os.close(fd)


def main() -> None:
    parent, *steps = sys.argv[1:]
    try:
        if steps:
            take_steps(int(parent), steps)
        else:
            serve(int(parent))
    except OSError as error:
        sys.exit(f"launcher: {error}")


if __name__ == "__main__":
    main()
