"""A workspace from the stream that `packing` made of another one.

Nothing in it is trusted: it comes from where code of a model ran. Every name is walked from the workspace down without
following a link, and what is neither a regular file nor a folder nor a link that stays inside is refused.
"""

import contextlib
import os
import stat
import tarfile
import zlib

from . import files
from .packing import MAX_ENTRIES, stays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

_BLOCK = 512
_RECORD = 20 * _BLOCK
"""What follows the end of a tar file at most: other programs fill up the record that it is in."""

_PIECE_BYTES = 128 * 1024
_MAX_PAX_BYTES = 64 * 1024
_MAX_NAMES_BYTES = 64 * 1024 * 1024
_GZIP = 31
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacker:
    """Writes the workspace. What it wrote before it refused stays there: the host destroys that sandbox."""

    def __init__(self, max_bytes: int) -> None:
        self.files = 0
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._names_left = _MAX_NAMES_BYTES
        self._entries = 0
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(_GZIP)
        self._ended = False
        self._links: list[tuple[str, str]] = []
        self._folders: list[tuple[str, int, int]] = []
        self._machine = self._read()
        next(self._machine)

    def add(self, data: bytes) -> None:
        """The next part of the stream. Raises `files.Refused` and OSError."""
        while data:
            self._inflated(data)
            data = self._inflate.unconsumed_tail

    def finish(self) -> None:
        """Check that the stream is whole; then set what would have been in the way before: links, modes of folders."""
        while self._inflated(b""):
            pass  # the decompressor held some back
        if not self._ended or not self._inflate.eof:
            raise files.Refused("the stream ends too early")
        for path, target in self._links:
            self._link(path, target)
        for path, target in self._links:
            if not stays(path, target):  # by way of a link that came after it
                os.unlink(os.path.join(files.WORKSPACE, path))  # noqa: PTH108, PTH118
        for path, mode, mtime in reversed(self._folders):
            fd = _folder(path.split("/"))
            try:
                _set(fd, mode, mtime)
            finally:
                os.close(fd)

    def _inflated(self, data: bytes) -> bool:
        """Take a piece of what `data` inflates to; whether there was any."""
        try:
            piece = self._inflate.decompress(data, _PIECE_BYTES)
        except zlib.error as error:
            raise files.Refused(f"it is not the stream of a workspace: {error}") from error
        self._buffer += piece
        if not self._ended:
            next(self._machine)
        elif len(self._buffer) > _RECORD:
            raise files.Refused("the stream goes on after its end")
        return bool(piece)

    def _read(self) -> "Generator[None]":
        """The stream's grammar. It stops wherever it needs bytes that are not there yet."""
        pax: dict[str, str] = {}
        while True:
            block = yield from self._exactly(_BLOCK)
            if not any(block):
                break
            info = _parsed(block)
            if info.type == tarfile.XHDTYPE:
                pax = _records((yield from self._extension(info.size)))
                continue
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise files.Refused(f"it has more than {MAX_ENTRIES} files and folders")
            yield from self._entry(info, pax)
            pax = {}
        self._ended = True
        yield

    def _exactly(self, size: int) -> "Generator[None, None, bytes]":
        while len(self._buffer) < size:
            yield
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _extension(self, size: int) -> "Generator[None, None, bytes]":
        self._names_left -= size
        if not 0 <= size <= _MAX_PAX_BYTES or self._names_left < 0:
            raise files.Refused("the names in it are too long")
        data = yield from self._exactly(size + -size % _BLOCK)
        return data[:size]

    def _entry(self, info: tarfile.TarInfo, pax: "dict[str, str]") -> "Generator[None]":
        path = pax.get("path", info.name)
        parts = _checked(path)
        mode = info.mode & 0o777
        if info.type == tarfile.DIRTYPE:
            os.close(_folder(parts))
            self._folders.append(("/".join(parts), mode, _number(pax, "mtime", info.mtime)))
        elif info.type == tarfile.SYMTYPE:
            self._links.append(("/".join(parts), pax.get("linkpath", info.linkname)))
        elif info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            yield from self._file(parts, _number(pax, "size", info.size), mode, _number(pax, "mtime", info.mtime))
        else:
            raise files.Refused(f"{path[:200]} is neither a file nor a folder nor a link to one")

    def _file(self, parts: "list[str]", size: int, mode: int, mtime: int) -> "Generator[None]":
        self.files += 1
        self.size_bytes += size
        if size < 0 or self.size_bytes > self._max_bytes:
            raise files.Refused(f"its files have more than {self._max_bytes} bytes")
        folder_fd = _folder(parts[:-1])
        try:
            fd = os.open(parts[-1], _WRITE_FLAGS, 0o600, dir_fd=folder_fd)
        finally:
            os.close(folder_fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise files.Refused(f"{'/'.join(parts)[:200]} is there already and not a regular file")
            yield from self._contents(fd, size)
            _set(fd, mode, mtime)
        finally:
            os.close(fd)
        yield from self._exactly(-size % _BLOCK)

    def _contents(self, fd: int, size: int) -> "Generator[None]":
        while size:
            while not self._buffer:
                yield
            written = os.write(fd, self._buffer[: min(size, _PIECE_BYTES)])
            del self._buffer[:written]
            size -= written

    def _link(self, path: str, target: str) -> None:
        if "\0" in target or not stays(path, target):
            raise files.Refused(f"{path[:200]} leads out of the workspace")
        *folders, name = path.split("/")
        fd = _folder(folders)
        try:
            os.symlink(target, name, dir_fd=fd)
        finally:
            os.close(fd)


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise files.Refused(f"it is not the stream of a workspace: {error}") from error


def _records(data: bytes) -> "dict[str, str]":
    """An extended header: lines with their own length before them, as `30 path=a name\\n`."""
    found: dict[str, str] = {}
    while data:
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 7 else 0
        line = data[len(digits) + 1 : length]
        name, equals, value = line.partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(data):
            raise files.Refused("it is not the stream of a workspace: a broken extended header")
        found[name.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
        data = data[length:]
    return found


def _number(pax: "dict[str, str]", name: str, otherwise: float) -> int:
    try:
        return int(float(pax.get(name, otherwise)))
    except (ValueError, OverflowError):
        raise files.Refused(f"it is not the stream of a workspace: a broken {name}") from None


def _checked(path: str) -> "list[str]":
    parts = path.rstrip("/").split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise files.Refused(f"{path[:200]} is not a name below the workspace")
    return parts


def _folder(parts: "list[str]") -> int:
    """A folder below the workspace, made where it is missing. No link is followed. The caller closes it."""
    fd = os.open(files.WORKSPACE, _DIR_FLAGS)
    for part in parts:
        try:
            try:
                below = os.open(part, _DIR_FLAGS, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=fd)
                below = os.open(part, _DIR_FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _set(fd: int, mode: int, mtime: int) -> None:
    os.fchmod(fd, mode)
    with contextlib.suppress(OSError, OverflowError):
        os.utime(fd, (mtime, mtime))
