"""Becomes the sandbox's first process: joins control groups, sets limits, drops the user, runs what holds it.

A script of its own because these steps must come between fork and exec, and a threaded program may run
no Python there. Arguments: the parent's pid; the uid to become or 0; "mortal" for a command that dies with the parent's
thread and does not see to that itself; files to write "0" to, joined by ":"; limits as "number=value", joined by ",";
then the command.
"""

import os
import resource
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module would be a part of the time that a sandbox takes to start
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, uid, mortal, groups, limits, *command = sys.argv[1:]
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
    if os.getppid() != int(parent):
        sys.exit("the process that asked for a sandbox is gone")
    os.execve(command[0], command, {})  # noqa: S606  no environment: what the host has in it is no business of tools


def _mortality() -> "Callable[[], None]":
    """What makes this process die with the thread that started it."""
    import ctypes  # noqa: PLC0415  it would cost those their time who need it not

    libc = ctypes.CDLL(None, use_errno=True)

    def die_with_parent() -> None:
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
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


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"launcher: {error}")
