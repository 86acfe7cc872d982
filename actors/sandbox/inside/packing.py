"""The workspace as a stream of bytes: a tar file under gzip, read in parts."""

import contextlib
import os
import stat
import tarfile
import zlib

from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ENTRIES = 100_000
CHUNK_BYTES = 1024 * 1024
_STEP_BYTES = 16 * 1024 * 1024
_ENTRY_COST = 4096
"""Work of a step is measured in bytes read, and an entry without any is some work, too."""

_BLOCK = 512
_PIECE_BYTES = 128 * 1024
_GZIP = 31
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class Packer:
    """Reads the workspace: regular files, folders, and links that stay inside. Hard links become files of their own."""

    def __init__(self, max_bytes: int) -> None:
        self.more = True
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._entries = 0
        self._work = 0
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
        self._blocks = self._stream()

    def part(self) -> bytes:
        """About CHUNK_BYTES of the stream, or what a step's work gave of it. Raises `files.Refused` and OSError."""
        parts: list[bytes] = []
        size = 0
        self._work = 0
        while size < CHUNK_BYTES and self._work < _STEP_BYTES:
            block = next(self._blocks, None)
            if block is None:
                parts.append(self._deflate.flush())
                self.more = False
                break
            parts.append(self._deflate.compress(block))
            size += len(parts[-1])
            self._work += len(block)
        return b"".join(parts)

    def _stream(self) -> "Iterator[bytes]":
        opened_up: list[tuple[str, int]] = []
        pending = ["."]
        try:
            while pending:
                folder = pending.pop()
                whole = os.path.normpath(os.path.join(files.WORKSPACE, folder))  # noqa: PTH118
                mode = _mode(whole)
                if mode & 0o700 != 0o700:
                    _change_mode(whole, mode | 0o700)
                    opened_up.append((whole, mode))
                yield from self._folder(whole, folder, pending)
        finally:
            for whole, mode in reversed(opened_up):
                with contextlib.suppress(OSError):
                    _change_mode(whole, mode)
        yield b"\0" * (2 * _BLOCK)

    def _folder(self, whole: str, folder: str, pending: "list[str]") -> "Iterator[bytes]":
        fd = os.open(whole, _DIR_FLAGS)
        try:
            if os.readlink(f"/proc/self/fd/{fd}") != whole:  # noqa: PTH115
                raise files.Refused(f"{folder[:200]} was moved while it was read")
            for name in self._names(fd):
                path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    pending.append(path)
                yield from self._entry(fd, name, path, info)
        finally:
            os.close(fd)

    def _names(self, fd: int) -> "list[str]":
        names: list[str] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > MAX_ENTRIES:
                    raise files.Refused(f"it has more than {MAX_ENTRIES} files and folders")
                names.append(entry.name)
        return sorted(names)

    def _entry(self, folder_fd: int, name: str, path: str, info: os.stat_result) -> "Iterator[bytes]":
        self._work += _ENTRY_COST
        if stat.S_ISDIR(info.st_mode):
            yield _header(path, info, tarfile.DIRTYPE)
        elif stat.S_ISLNK(info.st_mode):
            target = os.readlink(name, dir_fd=folder_fd)
            if stays(path, target):
                yield _header(path, info, tarfile.SYMTYPE, target=target)
        elif stat.S_ISREG(info.st_mode):
            fd = _readable(name, folder_fd)
            try:
                yield from self._file(fd, path)
            finally:
                os.close(fd)

    def _file(self, fd: int, path: str) -> "Iterator[bytes]":
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return  # swapped since it was looked at
        size = info.st_size
        self._left -= size
        if self._left < 0:
            raise files.Refused(f"its files have more than {self._max_bytes} bytes")
        yield _header(path, info, tarfile.REGTYPE, size=size)
        position = 0
        while position < size:
            # A file that became shorter meanwhile is filled up: its size has been said.
            wanted = min(_PIECE_BYTES, size - position)
            yield os.pread(fd, wanted, position).ljust(wanted, b"\0")
            position += wanted
        yield b"\0" * (-size % _BLOCK)


def _header(path: str, info: os.stat_result, kind: bytes, *, size: int = 0, target: str = "") -> bytes:
    member = tarfile.TarInfo(path)
    member.type = kind
    member.size = size
    member.mode = stat.S_IMODE(info.st_mode) & 0o777
    member.mtime = int(info.st_mtime)
    member.linkname = target
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def stays(path: str, target: str) -> bool:
    """Whether a link at `path` leads to somewhere in the workspace, be something there or not."""
    folder = os.path.dirname(os.path.join(files.WORKSPACE, path))  # noqa: PTH118, PTH120
    real = os.path.realpath(os.path.join(folder, target))  # noqa: PTH118
    return real == files.WORKSPACE or real.startswith(files.WORKSPACE + "/")


def _readable(name: str, folder_fd: int) -> int:
    """Open a file of ours to read it, even if its mode forbids that for now. The caller closes it."""
    try:
        return os.open(name, _READ_FLAGS, dir_fd=folder_fd)
    except PermissionError:
        mode = _mode(name, folder_fd)
    _change_mode(name, mode | 0o400, folder_fd)
    try:
        return os.open(name, _READ_FLAGS, dir_fd=folder_fd)
    finally:
        _change_mode(name, mode, folder_fd)


def _mode(name: str, folder_fd: "int | None" = None) -> int:
    return stat.S_IMODE(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode)


def _change_mode(name: str, mode: int, folder_fd: "int | None" = None) -> None:
    """Of the thing itself, and not of what a link in its place leads to."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.chmod(f"/proc/self/fd/{handle}", mode)  # noqa: PTH101
    finally:
        os.close(handle)
