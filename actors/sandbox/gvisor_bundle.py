"""The bundle of a gVisor sandbox: the folder with its settings, and with what `runsc` notes there.

The root is an empty skeleton of the sandbox's own, into which gVisor mounts the shared tree, read-only, and folders in
memory. Nothing else of this machine is in it, and no host folder can be written through it.
"""

import contextlib
import json
import os
import secrets
import shutil
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import owners
from .base import Limits
from .interior import WORKSPACE, agent_program, environment, writable_folders
from .rootfs import RootFs

UID = 1000
"""The user inside. Outside each sandbox has a user of its own."""

_FOLDER = "gvisor"
_OWNER = "owner"
_FILTER = "GREENROOM_FILTER"
_MOUNT_POINTS = ("usr", "etc", "proc", "sys", "dev", "tmp", WORKSPACE.lstrip("/"))
# As the filter of bubblewrap does, before the agent and so before all else that runs here.
_LOAD_FILTER = f"""
import base64, ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
code = base64.b64decode(os.environ.pop("{_FILTER}"))
held = ctypes.create_string_buffer(code, len(code))
program = (ctypes.c_ulonglong * 2)(len(code) // 8, ctypes.addressof(held))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    raise OSError(ctypes.get_errno(), "no system call filter")
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder made by `create`, for one sandbox, that goes with it."""

    folder: Path

    @property
    def state(self) -> Path:
        """Where `runsc` keeps what it knows of this sandbox, and of no other."""
        return self.folder / "state"

    def processes(self) -> list[int]:
        """Ids of gVisor's kernel and of its file server, the kernel first. Raises OSError and ValueError."""
        [path] = self.state.glob("*.state")
        noted: Any = json.loads(path.read_text())
        try:
            return [int(noted["sandbox"]["pid"]), int(noted["goferPid"])]
        except (KeyError, TypeError) as error:
            raise ValueError(f"runsc does not say which processes it started: {error!r}") from error

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def create(cache: Path, rootfs: RootFs, limits: Limits, command: Sequence[str], seccomp: bytes, **own: Any) -> Bundle:
    """A bundle that runs `command`; `own` holds `uid`, the host user it is for, None for our own, and `address_space`,
    the bytes that one process may map where no control group bounds memory. Raises OSError."""
    place = cache / _FOLDER
    place.mkdir(mode=0o755, exist_ok=True)
    bundle = Bundle(place / secrets.token_hex(8))
    root = bundle.folder / "root"
    try:
        bundle.folder.mkdir(mode=0o700)
        (bundle.folder / _OWNER).write_text(owners.this_process())
        for folder in (bundle.state, root, *(root / name for name in _MOUNT_POINTS)):
            folder.mkdir(mode=0o755)
        for name in ("bin", "lib", "lib64"):
            if (rootfs.root / "usr" / name).is_dir():
                (root / name).symlink_to(f"usr/{name}")
        config = _config(rootfs, root, limits, command, seccomp, own.get("address_space"))
        (bundle.folder / "config.json").write_text(json.dumps(config))
        (bundle.folder / "config.json").chmod(0o644)
        if own.get("uid") is not None:
            for path in (bundle.folder, bundle.state):
                os.chown(path, own["uid"], own["uid"])
    except BaseException:
        bundle.remove()
        raise
    return bundle


def remove_leftovers(cache: Path) -> None:
    """Remove bundles of processes that were killed before they could."""
    for folder in (cache / _FOLDER).glob("*/"):
        with contextlib.suppress(OSError):  # its owner is at it
            if owners.is_gone((folder / _OWNER).read_text()):
                shutil.rmtree(folder, ignore_errors=True)


def agent_command(rootfs: RootFs, limits: Limits) -> list[str]:
    """What becomes the agent, under the filter."""
    return [rootfs.python, "-I", "-c", f"{_LOAD_FILTER}{agent_program()}", str(limits.pids + 1)]


def _config(
    rootfs: RootFs, root: Path, limits: Limits, command: Sequence[str], seccomp: bytes, address_space: int | None
) -> dict[str, Any]:
    bounds = {"RLIMIT_FSIZE": limits.file_bytes, "RLIMIT_NOFILE": limits.open_files, "RLIMIT_CORE": 0}
    if address_space is not None:
        bounds["RLIMIT_AS"] = address_space
    variables = environment(has_way_out=False) | {_FILTER: b64encode(seccomp).decode()}
    return {
        "ociVersion": "1.0.0",
        "hostname": "sandbox",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "args": list(command),
            "cwd": WORKSPACE,
            "env": [f"{name}={value}" for name, value in variables.items()],
            "user": {"uid": UID, "gid": UID},
            "capabilities": {},
            "noNewPrivileges": True,
            "rlimits": [{"type": name, "soft": value, "hard": value} for name, value in bounds.items()],
        },
        "mounts": list(_mounts(rootfs, limits)),
        "linux": {"namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")]},
    }


def _mounts(rootfs: RootFs, limits: Limits) -> list[dict[str, Any]]:
    memory = [
        # gVisor's own description of a machine, which is not this one, is hidden all the same.
        _mount("/sys", "tmpfs", "ro", "mode=0755"),
        *(
            _mount(path, "tmpfs", "nosuid", "nodev", f"size={size}", "mode=0700", f"uid={UID}", f"gid={UID}")
            for path, size in writable_folders(limits)
        ),
    ]
    shared = [
        {"destination": f"/{name}", "type": "bind", "source": str(rootfs.root / name), "options": ["bind", "ro"]}
        for name in ("usr", "etc")
    ]
    return [_mount("/proc", "proc"), _mount("/dev", "tmpfs"), *shared, *memory]


def _mount(path: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}
