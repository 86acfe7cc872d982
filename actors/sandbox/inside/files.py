"""Files of the workspace, and of nothing else: regular files and folders below it.

Tool code runs at the same time and may swap any part of a path for a link. So a path is resolved,
opened, and then asked of the kernel what was really opened: `/proc/self/fd` decides, not the name.
"""

import contextlib
import errno
import json
import os
import stat

WORKSPACE = "/workspace"
MAX_LIST_BYTES = 3 * 1024 * 1024
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
_UPLOAD_NAME = ".upload-"
_REMOVED_NAME = ".removed-"


class Refused(Exception):
    """The operation cannot be done; the text is for the caller."""


def read(path: str, offset: int, max_bytes: int) -> tuple[bytes, int]:
    """Bytes from `offset` on, and the size of the whole file."""
    fd = _open_below(path, _FILE_FLAGS)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Refused(f"{path} is {_kind(info.st_mode)} and not a regular file")
        return os.pread(fd, max_bytes, offset), info.st_size
    finally:
        os.close(fd)


def status(path: str) -> tuple[str, str, int]:
    """Where `path` leads, with every link followed, relative to the workspace; what is there; its size.

    The kinds are file, folder, missing and special.
    """
    real = _resolve(path)
    relative = os.path.relpath(real, WORKSPACE)
    try:
        info = os.lstat(real)
    except FileNotFoundError:
        return relative, "missing", 0
    if stat.S_ISDIR(info.st_mode):
        return relative, "folder", 0
    return relative, "file" if stat.S_ISREG(info.st_mode) else "special", info.st_size


class Upload:
    """A file being written. It has no name until `commit`, so a broken one leaves nothing behind.

    Where the kernel knows no such files, as gVisor's does not, it has one of ours, which goes with `close`.
    """

    def __init__(self, path: str) -> None:
        target = _resolve(path)
        if target == WORKSPACE:
            raise Refused("the workspace itself is a folder")
        folder, self._name = os.path.split(target)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103  pathlib would cost each start its import
        self._folder_fd = _open_below(folder, _DIR_FLAGS)
        self._temporary = ""
        try:
            self._mode = self._replaceable(path)
            self._fd = self._open()
        except BaseException:
            os.close(self._folder_fd)
            raise

    def _open(self) -> int:
        try:
            return os.open(f"/proc/self/fd/{self._folder_fd}", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
        name = _temporary_name()
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._folder_fd)
        self._temporary = name
        return fd

    def _replaceable(self, path: str) -> int:
        try:
            info = os.stat(self._name, dir_fd=self._folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return 0o644
        if not stat.S_ISREG(info.st_mode):
            raise Refused(f"{path} is {_kind(info.st_mode)} and not a regular file")
        return stat.S_IMODE(info.st_mode) & 0o777

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def commit(self) -> None:
        """Put the file in its place at once: readers see the old one or the new one."""
        os.fchmod(self._fd, self._mode)
        if not self._temporary:
            name = _temporary_name()
            os.link(f"/proc/self/fd/{self._fd}", name, dst_dir_fd=self._folder_fd, follow_symlinks=True)
            self._temporary = name
        os.rename(self._temporary, self._name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        self._temporary = ""

    def close(self) -> None:
        if self._temporary:
            with contextlib.suppress(OSError):  # tool code was faster
                os.unlink(self._temporary, dir_fd=self._folder_fd)
        os.close(self._fd)
        os.close(self._folder_fd)


def _temporary_name() -> str:
    return _UPLOAD_NAME + os.urandom(8).hex()


def listing(path: str, max_entries: int) -> "tuple[list[tuple[str, int, bool]], bool]":
    """Regular files and folders below `path`, depth first: path in the workspace, size, whether a folder.

    And whether there are more than an answer holds, other than for `max_entries`.
    """
    pending = [_resolve(path)]
    found: list[tuple[str, int, bool]] = []
    size = 0
    first = True
    while pending and len(found) < max_entries and size <= MAX_LIST_BYTES:
        folder = pending.pop()
        if not first:
            found.append((os.path.relpath(folder, WORKSPACE), 0, True))
            size += _listed_size(found[-1][0])
        try:
            files, folders = _children(folder)
        except (OSError, Refused):
            if first:
                raise
            continue  # it went away, or is closed to us, while we walked
        first = False
        for name, file_size in files:
            relative = os.path.relpath(os.path.join(folder, name), WORKSPACE)  # noqa: PTH118
            size += _listed_size(relative)
            if len(found) >= max_entries or size > MAX_LIST_BYTES:
                return found, len(found) < max_entries
            found.append((relative, file_size, False))
        pending.extend(os.path.join(folder, name) for name in reversed(folders))  # noqa: PTH118
    return found, bool(pending) and len(found) < max_entries


def _listed_size(relative: str) -> int:
    return len(json.dumps(relative)) + 64  # a character that is not ASCII takes six bytes or twelve


def remove(path: str, *, recursive: bool) -> None:
    """Remove a file, a link (and not what it leads to), or a folder, which must be empty unless `recursive`."""
    target = os.path.normpath(os.path.join(WORKSPACE, path))  # noqa: PTH118  as above
    if target == WORKSPACE:
        raise Refused("the workspace itself cannot be removed")
    folder, name = os.path.split(target)
    folder_fd = _open_below(folder, _DIR_FLAGS)
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder_fd)
            return
        if recursive:
            _empty(name, folder_fd)
        os.rmdir(name, dir_fd=folder_fd)
    finally:
        os.close(folder_fd)


def _empty(name: str, folder_fd: int) -> None:
    """What lies deeper is moved up before it is removed, so that no depth needs more than three descriptors.

    No link is followed: what is swapped for one meanwhile is an error, and leads nowhere.
    """
    os.chmod(name, 0o700, dir_fd=folder_fd)
    top_fd = os.open(name, _DIR_FLAGS | os.O_NOFOLLOW, dir_fd=folder_fd)
    try:
        pending = _unlink_files(top_fd)
        while pending:
            below = pending.pop()
            fd = os.open(below, _DIR_FLAGS | os.O_NOFOLLOW, dir_fd=top_fd)
            try:
                for deeper in _unlink_files(fd):
                    pending.append(_REMOVED_NAME + os.urandom(8).hex())
                    os.rename(deeper, pending[-1], src_dir_fd=fd, dst_dir_fd=top_fd)
            finally:
                os.close(fd)
            os.rmdir(below, dir_fd=top_fd)
    finally:
        os.close(top_fd)


def _unlink_files(folder_fd: int) -> list[str]:
    """Remove what is no folder; the names of the folders, which can be entered and moved from now on."""
    with os.scandir(folder_fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        if is_dir:
            os.chmod(name, 0o700, dir_fd=folder_fd)
        else:
            os.unlink(name, dir_fd=folder_fd)
    return [name for name, is_dir in found if is_dir]


def _children(folder: str) -> tuple[list[tuple[str, int]], list[str]]:
    fd = _open_below(folder, _DIR_FLAGS)
    try:
        files: list[tuple[str, int]] = []
        folders: list[str] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(mode.st_mode):
                    folders.append(entry.name)
                elif stat.S_ISREG(mode.st_mode):
                    files.append((entry.name, mode.st_size))
        return sorted(files), sorted(folders)
    finally:
        os.close(fd)


def _resolve(path: str) -> str:
    real = os.path.realpath(os.path.join(WORKSPACE, path))  # noqa: PTH118
    if real != WORKSPACE and not real.startswith(WORKSPACE + "/"):
        raise Refused(f"{path} is outside the workspace")
    return real


def _open_below(path: str, flags: int) -> int:
    fd = os.open(_resolve(path), flags)
    opened = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    if opened != WORKSPACE and not opened.startswith(WORKSPACE + "/"):
        os.close(fd)
        raise Refused(f"{path} is outside the workspace")
    return fd


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISLNK, "a link"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in kinds if test(mode)), "a special file")
