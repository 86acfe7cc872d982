"""`greenroom exec` and `greenroom files`, over the same HTTP API as everybody else."""

import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.core.errors import GreenroomError
from serve_app.calls import ExecOptions
from serve_app.client import Client

from . import connection
from .environment import WrongSettings, read_settings

OK, FAILED, INTERRUPTED = 0, 1, 130
TIMED_OUT, NOT_ALLOWED = 124, 126
"""As `timeout` and a shell have it."""
LISTED_MAX = 1000
_STREAM = Path("-")


@dataclass(frozen=True, slots=True)
class Door:
    """Where the API is: the run of a home folder, or an address and a file with a key."""

    home: Path | None
    url: str | None
    key_file: Path | None

    def open(self) -> Client:
        """Raises `NotRunning`, `WrongSettings` and OSError."""
        if self.url is not None:
            return Client(self.url, self.key_file.read_text().strip() if self.key_file else None)
        return connection.client(read_settings(home=self.home).home_dir)


class _Told(Exception):
    """It cannot be done, and the message is for the user. Never leaves this file."""


@contextmanager
def _client(door: Door) -> Generator[Client]:
    try:
        with door.open() as client:
            yield client
    except GreenroomError as error:
        raise _Told(error.message) from error
    except (connection.NotRunning, WrongSettings, OSError) as error:
        raise _Told(str(error)) from error


@dataclass(frozen=True, slots=True)
class Manner:
    """How something is run: `keep` is of Python; `usage` says at the end what it took."""

    is_python: bool = False
    keep: bool = False
    timeout_s: float | None = None
    usage: bool = False


def execute(door: Door, session_id: str, words: Sequence[str], manner: Manner) -> int:
    """Run it, show its output as it comes, and give its exit code."""
    is_python = manner.is_python or manner.keep
    source = words[0] if len(words) == 1 else " ".join(words) if is_python else shlex.join(words)
    options: ExecOptions = {"python": source, "keep": manner.keep} if is_python else {"command": source}
    shown = 0

    def show(text: str) -> None:
        nonlocal shown
        shown += len(text)
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        with _client(door) as client:
            ended = client.exec(session_id, timeout_s=manner.timeout_s, on_output=show, **options)
    except _Told as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted; it was killed", code=INTERRUPTED)
    if not shown:
        show(ended["output"] if ended["verdict"] != "policy" else "")
    if ended["truncated"]:
        sys.stderr.write(f"This is not all: it printed {ended['output_bytes']:,} bytes.\n")
    if ended["variables"] == "gone":
        sys.stderr.write("The interpreter ended, and its variables are gone.\n")
    if manner.usage:
        sys.stderr.write(f"{_taken(ended)}\n")
    return _exit_code(ended)


def _taken(ended: dict[str, Any]) -> str:
    """What was counted, in a line."""
    parts = [f"{ended['verdict']}: {ended['wall_s']:g} s"]
    if ended["cpu_s"] is not None:
        parts.append(f"{ended['cpu_s']:g} s of processor")
    if ended["peak_memory_bytes"] is not None:
        parts.append(f"{ended['peak_memory_bytes'] / 2**20:.1f} MiB of memory")
    parts.append(f"{ended['output_bytes']:,} bytes printed")
    if ended["variables"] is not None:
        parts.append(f"variables: {ended['variables']}")
    return ", ".join(parts)


def _exit_code(ended: dict[str, Any]) -> int:
    match ended["verdict"]:
        case "ok" | "nonzero":
            return int(str(ended["exit_code"])) if ended["exit_code"] is not None else FAILED
        case "policy":
            return _fail(str(ended["output"]), code=NOT_ALLOWED)
        case "timeout":
            return _fail("it ran too long, and was killed", code=TIMED_OUT)
        case verdict:
            return _fail(f"it ended badly: {verdict}")


def list_files(door: Door, session_id: str, path: str) -> int:
    try:
        with _client(door) as client:
            listed = client.files(session_id, path, limit=LISTED_MAX)
    except _Told as error:
        return _fail(str(error))
    for entry in listed["data"]:
        size = "" if entry["type"] == "folder" else f"{entry['size_bytes']:,}"
        # A name is what tool code made of it: nothing in it may move a terminal's cursor.
        name = "".join(letter if letter.isprintable() else "\ufffd" for letter in entry["path"])
        sys.stdout.write(f"{size:>15}  {name}{'/' if entry['type'] == 'folder' else ''}\n")
    if listed["truncated"]:
        sys.stderr.write(f"These {len(listed['data']):,} are not all: name a folder.\n")
    return OK


def get(door: Door, session_id: str, path: str, to: Path | None) -> int:
    target = to or Path(Path(path).name)
    try:
        if to is None and target.exists():
            raise _Told(f"{target} is here already; name where to write it: … get {session_id} {path} {target}")
        with _client(door) as client:
            data = client.read_file(session_id, path)
            if target == _STREAM:
                sys.stdout.buffer.write(data)
            else:
                target.write_bytes(data)
    except _Told as error:
        return _fail(str(error))
    return OK


def put(door: Door, session_id: str, file: Path, path: str | None) -> int:
    try:
        if file == _STREAM and path is None:
            raise _Told("name the path in the workspace: standard input has none")
        with _client(door) as client:
            data = sys.stdin.buffer.read() if file == _STREAM else file.read_bytes()
            client.write_file(session_id, path or file.name, data)
    except _Told as error:
        return _fail(str(error))
    return OK


def remove(door: Door, session_id: str, path: str, *, recursive: bool) -> int:
    try:
        with _client(door) as client:
            client.delete_file(session_id, path, recursive=recursive)
    except _Told as error:
        return _fail(str(error))
    return OK


def _fail(message: str, *, code: int = FAILED) -> int:
    sys.stderr.write(f"{message}\n")
    return code
