"""Paths of files in a workspace, as they stand in an address."""

from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope

from actors.core.errors import InvalidPath

MAX_CHARS = 4096
MAX_NAME_BYTES = 255
"""What a file system takes as one name."""


class _FileConvertor(Convertor[str]):
    """The rest of an address, whatever it holds: a file's name may have new lines in it."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("file", _FileConvertor())


def check_path(path: str) -> str:
    """The path, which is relative, has no dots and no empty names, and means one file only. Raises `InvalidPath`."""
    if "\0" in path:
        raise InvalidPath("a path holds no NUL")
    if len(path) > MAX_CHARS:
        raise InvalidPath(f"a path has {MAX_CHARS:,} characters at most")
    names = path.split("/")
    if not all(names):
        raise InvalidPath(
            "name one file, relative to the workspace: no slash at the beginning or the end, and none twice"
        )
    if {".", ".."} & set(names):
        raise InvalidPath("a path has no . and no .. in it; it is relative to the workspace")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        raise InvalidPath(f"a name has {MAX_NAME_BYTES} bytes at most")
    return path


def check_folder(path: str) -> str:
    """The same for a folder: it may end with a slash, and the workspace itself is empty. Raises `InvalidPath`."""
    path = path.removesuffix("/")
    return check_path(path) if path not in {"", "."} else "."


def check_encoding(scope: Scope) -> None:
    """Raises `InvalidPath` when the address is no UTF-8: what was decoded of it is not what was said."""
    raw: bytes = scope.get("raw_path") or b""
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidPath("the path is not UTF-8; write other bytes percent-encoded, as UTF-8") from None
