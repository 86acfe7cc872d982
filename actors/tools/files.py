"""The tools `read_file`, `write_file` and `list_files`: the workspace of the session's sandbox."""

import posixpath
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

from pydantic import Field

from ..sandbox.base import FileSlice, Listing, PolicyRefused, WorkspaceError
from .base import Tool, ToolContext, ToolFailed, ToolResult, tool
from .execution import sandbox_border

LISTED_MAX = 500
WORKSPACE = "/workspace"
_UTF8_LONGEST = 4


def file_tools(*, slice_bytes: int) -> tuple[Tool, ...]:
    """`slice_bytes` is what one read gives at most; it should fit in what the model gets of an answer."""

    async def read_file(
        context: ToolContext,
        path: Annotated[str, "Path relative to the workspace."],
        # The schema takes a default from `Field`; the other one is for type checkers.
        offset: Annotated[int, "Byte to start from.", Field(ge=0)] = 0,
        max_bytes: Annotated[int, "Bytes to read.", Field(ge=1, le=slice_bytes)] = slice_bytes,
    ) -> ToolResult:
        """Read a UTF-8 text file of the workspace. A long file comes in slices: the answer's last line says which
        offset to go on from. Of a binary file only the size is told; use run_python to look into it."""
        name = _relative(path)
        with _workspace_border("not_found"), sandbox_border():
            # A character must fit, or a small `max_bytes` would never get past it.
            part = await context.sandboxes.read(
                context.session_id, name, offset=offset, max_bytes=max(max_bytes, _UTF8_LONGEST)
            )
        return _shown(name, part)

    async def write_file(
        context: ToolContext,
        path: Annotated[str, "Path relative to the workspace. Missing folders are made."],
        content: Annotated[str, "The whole new content."],
    ) -> ToolResult:
        """Write a UTF-8 text file to the workspace. A file that is there already is replaced."""
        name = _relative(path)
        data = content.encode("utf-8", "replace")
        with _workspace_border("invalid_path"), sandbox_border():
            await context.sandboxes.write(context.session_id, name, data)
        return ToolResult(f"Wrote {len(data):,} bytes to {name}.", data={"path": name, "size_bytes": len(data)})

    async def list_files(
        context: ToolContext,
        path: Annotated[str, "A folder, relative to the workspace."] = ".",
    ) -> ToolResult:
        """List the files and folders of the workspace, or of one folder in it, with all that is below."""
        name = _relative(path)
        with _workspace_border("not_found"), sandbox_border():
            # One more than is shown, to know whether that is all.
            found = await context.sandboxes.list(context.session_id, name, max_entries=LISTED_MAX + 1)
        return _listed(found)

    return tool(read_file), tool(write_file), tool(list_files)


def _relative(path: str) -> str:
    """The path below the workspace. The sandbox is the guard; this only tells the model at once what cannot be."""
    if not path.strip() or "\0" in path:
        raise ToolFailed("invalid_path", "The path is empty or holds a NUL. Give one relative to the workspace.")
    # `pwd` in a sandbox says /workspace, and models then write whole paths.
    name = posixpath.normpath(posixpath.relpath(path, WORKSPACE) if path.startswith("/") else path)
    if name.split("/", 1)[0] == "..":
        raise ToolFailed("invalid_path", f"{path!r} is not inside the workspace. Give a path relative to it.")
    return name


@contextmanager
def _workspace_border(kind: str) -> Generator[None]:
    """What the sandbox refuses for a well-formed path is nearly always of one `kind` per operation."""
    try:
        yield
    except PolicyRefused as error:
        raise ToolFailed("policy", f"{error} Nothing was done.") from error
    except WorkspaceError as error:
        raise ToolFailed(kind, str(error)) from error


def _shown(path: str, part: FileSlice) -> ToolResult:
    data = {"path": path, "size_bytes": part.size_bytes, "offset": part.offset}
    if not part.data:
        empty = f"(empty: the file has {part.size_bytes:,} bytes)" if part.offset else "(empty file)"
        return ToolResult(empty, data={**data, "next_offset": None})
    decoded = _decoded(part)
    if decoded is None:
        return ToolResult(
            f"{path} is not UTF-8 text: {part.size_bytes:,} bytes. Use run_python to look into it.",
            data={**data, "binary": True},
        )
    text, end = decoded
    if end >= part.size_bytes:
        return ToolResult(text, data={**data, "next_offset": None})
    hint = f"[Bytes {part.offset} to {end} of {part.size_bytes}. Go on with offset={end}.]"
    return ToolResult(f"{text}\n{hint}", data={**data, "next_offset": end})


def _decoded(part: FileSlice) -> tuple[str, int] | None:
    """The text of a slice and the byte after it, or None for what is not UTF-8 text.

    A slice may begin and end inside a character: what is left of the first one is dropped, and the last
    one is left to the next slice.
    """
    start = 0
    while part.offset and start < min(_UTF8_LONGEST - 1, len(part.data)) and 0x80 <= part.data[start] < 0xC0:
        start += 1
    more_follows = part.offset + len(part.data) < part.size_bytes
    least = max(start, 1, len(part.data) - (_UTF8_LONGEST - 1 if more_follows else 0))
    for end in range(len(part.data), least - 1, -1):
        try:
            text = part.data[start:end].decode()
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else (text, part.offset + end)
    return None


def _listed(found: Listing) -> ToolResult:
    lines = [f"{file.path}/" if file.is_dir else f"{file.path}  {file.size_bytes:,} bytes" for file in found]
    more = found.cut or len(lines) > LISTED_MAX
    if more:
        lines = lines[:LISTED_MAX]
        lines.append(f"[More than {len(lines)} entries. List one folder at a time.]")
    return ToolResult(
        "\n".join(lines) or "(no files)", data={"entries": min(len(found), LISTED_MAX), "truncated": more}
    )
