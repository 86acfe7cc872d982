"""What clients sent and saw, as a file of JSON lines, so that a journal can be checked against it.

A line is `{"kind": …, "at": 12.5, "wall": "2026-11-30T08:15:02.123456Z", …}`: `at` is the monotonic clock of
the client's machine in seconds, `wall` the time of day, the rest are the members of the record below whose
`kind` it is. Logs of several clients may be checked together, as long as request and connection ids differ.

    with ClientLog(path, SystemClock()) as log:
        log.write(Sent("r1", "hello", body=digest(body), key="k-1"))
        log.write(Answered("r1", 200, session_id=…, turn_id=…))
        log.write(Opened("c1", reader="anna", session_id=…, after=0))
        log.write(Seen("c1", seq=1, type="session.created", digest=digest(data)))
        log.write(Closed("c1"))

`Sent` stands before the request leaves and `Answered` after its answer came, so what the client does not
know is never written as known: a request without `Answered` may have been accepted or not.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from actors.core.clock import Clock, rfc3339


@dataclass(frozen=True, slots=True)
class Sent:
    """A message is about to be sent. `request` names this attempt to send it; a repeat is a request of its own.

    `body` is the `digest` of the JSON body, which tells whether two requests under one key ask for the same.
    `key` is the `Idempotency-Key`, which counts for one `user` and one `route`.
    """

    request: str
    content: str
    session_id: str | None = None
    key: str | None = None
    body: str | None = None
    on_busy: str = "enqueue"
    user: str = ""
    route: str = "chat"
    kind: Literal["sent"] = "sent"


@dataclass(frozen=True, slots=True)
class Answered:
    """The server answered. A 2xx with `turn_id` says that the message is accepted, and the journal must hold it.

    Of a stream, write it when its headers (`X-Session-Id`, `X-Turn-Id`) or its `message.accepted` have come.
    `code` is that of the problem document; `replayed` that `Idempotency-Replayed: true` came with it.
    """

    request: str
    status: int
    session_id: str | None = None
    turn_id: str | None = None
    message_id: str | None = None
    seq: int | None = None
    replayed: bool = False
    code: str | None = None
    kind: Literal["answered"] = "answered"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The connection broke, or the client gave up waiting."""

    request: str
    error: str
    kind: Literal["unanswered"] = "unanswered"


@dataclass(frozen=True, slots=True)
class Opened:
    """A reader asks for events from `after` on: a stream, or a page. With `turn_id` for those of one turn only.

    `reader` is who keeps the cursor: one that was cut off and resumes is the same reader on a new `connection`.
    """

    connection: str
    reader: str
    session_id: str
    after: int
    turn_id: str | None = None
    kind: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True)
class Seen:
    """A numbered event came. `digest` is that of its data, the flat JSON object. Previews are not logged."""

    connection: str
    seq: int
    type: str
    digest: str
    kind: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection is over. `ended`: the server said that there is no more; otherwise it was cut at any point."""

    connection: str
    ended: bool = False
    error: str | None = None
    kind: Literal["closed"] = "closed"


@dataclass(frozen=True, slots=True)
class CancelSent:
    request: str
    session_id: str
    turn_id: str
    kind: Literal["cancel.sent"] = "cancel.sent"


@dataclass(frozen=True, slots=True)
class CancelAnswered:
    """`turn_status` is the status of the turn that the answer names: completed, failed or cancelled."""

    request: str
    status: int
    turn_status: str | None = None
    kind: Literal["cancel.answered"] = "cancel.answered"


@dataclass(frozen=True, slots=True)
class Deleted:
    """The client asked to delete the session: from here on nothing need be found of it."""

    session_id: str
    kind: Literal["deleted"] = "deleted"


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """How often the model server answered (status 200) on behalf of a turn, by its own count."""

    turn_id: str
    count: int
    kind: Literal["model_calls"] = "model_calls"


@dataclass(frozen=True, slots=True)
class Effects:
    """How often a tool call had its effect, counted outside. `effect` names it, such as the line that it wrote."""

    session_id: str
    effect: str
    count: int
    turn_id: str | None = None
    kind: Literal["effects"] = "effects"


Record: TypeAlias = Annotated[
    Sent
    | Answered
    | Unanswered
    | Opened
    | Seen
    | Closed
    | CancelSent
    | CancelAnswered
    | Deleted
    | ModelCalls
    | Effects,
    Field(discriminator="kind"),
]
_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and when it was written: `at` in seconds of a monotonic clock, `wall` aware and in UTC."""

    at: float
    wall: datetime
    record: Record


class WrongLog(ValueError):
    """A client log cannot be read; the message names the file and the line."""


class ClientLog:
    """Appends records to a file, each flushed at once, and keeps them in `entries`. For one thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._file = path.open("a", encoding="utf-8")
        self.entries: list[Entry] = []

    def write(self, record: Record) -> Entry:
        entry = Entry(self._clock.monotonic(), self._clock.now(), record)
        self._file.write(_line(entry))
        self._file.flush()
        self.entries.append(entry)
        return entry

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_client_logs(paths: Iterable[Path]) -> tuple[Entry, ...]:
    """Every entry of these files, each file in its order. Raises `WrongLog`, or OSError.

    A last line without its end is left out: the client died while it wrote it. Records of a kind that this
    version does not know are left out too.
    """
    return tuple(entry for path in paths for entry in _read(path))


def digest(data: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its members and its blanks: what two sides compare."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _line(entry: Entry) -> str:
    head = {"kind": entry.record.kind, "at": entry.at, "wall": rfc3339(entry.wall)}
    members = _RECORD.dump_python(entry.record, mode="json", exclude={"kind"})
    return json.dumps({**head, **members}, ensure_ascii=False) + "\n"


def _read(path: Path) -> Sequence[Entry]:
    entries: list[Entry] = []
    # Not by `splitlines`, to which a line separator within a message ends the line. What follows the last end
    # of a line is a line that broke off.
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _entry(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise WrongLog(f"{path}, line {number}, is no record of a client log: {_reason(error)}") from error
        if entry is not None:
            entries.append(entry)
    return entries


def _entry(members: dict[str, Any]) -> Entry | None:
    at, wall = float(members["at"]), datetime.fromisoformat(members["wall"])
    try:
        return Entry(at, wall, _RECORD.validate_python(members))
    except ValidationError as error:
        if error.errors()[0]["type"] == "union_tag_invalid":
            return None  # of a kind that a newer version writes
        raise


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"
