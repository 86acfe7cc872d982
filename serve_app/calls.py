"""The HTTP API as data, for a client that mirrors it: what to send, and how to read what comes.

No I/O happens here. Where a request makes something it gets an Idempotency-Key, so that it can be repeated.
Errors are the classes of `actors.core.errors`, chosen by `code` from a closed table: nothing on the wire can
name a class.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict
from urllib.parse import quote

import httpx

from actors.core import errors
from actors.core.errors import GreenroomError, UnavailableError

Json: TypeAlias = dict[str, Any]

OnBusy: TypeAlias = Literal["enqueue", "reject", "interrupt", "steer"]

OnOutput: TypeAlias = Callable[[str], None]
"""Called with what a command prints, as it comes."""

TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})
"""Types of the event that ends a turn."""

KEY = "Idempotency-Key"
_SSE = {"Accept": "text/event-stream", "Cache-Control": "no-store"}

_ERRORS: dict[str, type[GreenroomError]] = {
    error.code: error
    for error in (
        *(GreenroomError, errors.InvalidInput, errors.UnknownModel, errors.MessageTooLarge, errors.CursorExpired),
        *(errors.IdempotencyKeyReused, errors.Unauthenticated, errors.Forbidden, errors.AccountSuspended),
        *(errors.InvalidPath, errors.FileTooLarge, errors.RangeNotSatisfiable, errors.PolicyRefusal),
        *(errors.NoSuchFile, errors.WorkspaceConflict),
        *(errors.NotFoundError, errors.SessionNotFound, errors.TurnNotFound),
        *(errors.MessageNotFound, errors.ApprovalNotFound),
        *(errors.ConflictError, errors.Fenced, errors.NotHere, errors.SessionExists, errors.SessionBusy),
        *(errors.MessageNotWaiting, errors.ApprovalNotPending, errors.HoldConflict),
        *(errors.LimitError, errors.TurnLimit, errors.AtCapacity, errors.InboxFull, errors.BudgetExceeded),
        *(UnavailableError, errors.ModelUnavailable, errors.ModelProtocolError, errors.ModelRefused),
        *(errors.SandboxUnavailable, errors.SandboxLost, errors.MemoryUnavailable, errors.StoreUnavailable),
        *(errors.LedgerUnavailable, errors.SessionLost, errors.Draining),
    )
}

_TOLD = {"type", "title", "detail", "code", "message"}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP exchange without the I/O."""

    method: str
    path: str
    body: Json | None = None
    content: bytes | None = None
    """A body that is no JSON."""
    query: dict[str, str | int] = field(default_factory=dict[str, str | int])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    repeatable: bool = False
    """It may be sent again when nobody knows whether it arrived."""

    @property
    def key(self) -> str | None:
        return self.headers.get(KEY)


@dataclass(frozen=True, slots=True)
class Item:
    """What a stream yields: an event, whose number is `seq`, or a preview, which has none."""

    type: str
    seq: int | None
    data: Json

    @property
    def is_preview(self) -> bool:
        return self.seq is None


class MessageOptions(TypedDict, total=False):
    """What may go with a message. Choose an `idempotency_key` to be able to repeat the call yourself."""

    model: str | None
    on_busy: OnBusy | None
    idempotency_key: str | None


class ChatOptions(MessageOptions, total=False):
    """Without `session_id` a new session is made, to which `system`, `metadata` and `approvals` belong."""

    session_id: str | None
    system: str | None
    metadata: Json | None
    approvals: list[str] | None


class SessionOptions(TypedDict, total=False):
    """What a new session may be given. `id` names it; creating the same id again changes nothing."""

    id: str | None
    model: str | None
    system: str | None
    metadata: Json | None
    approvals: list[str] | None
    idempotency_key: str | None


class ForkOptions(TypedDict, total=False):
    """From which event on the two part, and what comes along beside it: `memory`, `workspace`."""

    from_event: int | None
    include: list[Literal["memory", "workspace"]] | None
    idempotency_key: str | None


class ApprovalFilter(TypedDict, total=False):
    """Which approvals are listed."""

    session_id: str | None
    status: Literal["pending", "approved", "denied", "expired", "cancelled"] | None
    limit: int | None
    after: str | None


# Requests -------------------------------------------------------------------------------------------


def given(**members: Any) -> Json:
    return {name: value for name, value in members.items() if value is not None}


def path_of(kind: str, identifier: str, rest: str = "") -> str:
    return f"/api/v1/{kind}/{quote(identifier, safe='')}{rest}"


def _making(
    path: str, *, idempotency_key: str | None = None, headers: dict[str, str] | None = None, **body: Any
) -> Call:
    """A POST that makes something: under its key it makes it once."""
    key = idempotency_key or str(uuid.uuid4())
    return Call("POST", path, body=given(**body), headers={**(headers or {}), KEY: key}, repeatable=True)


def chat(message: str, options: ChatOptions) -> Call:
    return _making("/api/v1/chat", message=message, **options)


def chat_stream(message: str, options: ChatOptions) -> Call:
    return _making("/api/v1/chat", headers=_SSE, message=message, stream=True, **options)


def send(session_id: str, message: str, options: MessageOptions) -> Call:
    return _making(path_of("sessions", session_id, "/messages"), message=message, **options)


def create_session(options: SessionOptions) -> Call:
    return _making("/api/v1/sessions", **options)


def fork(session_id: str, options: ForkOptions) -> Call:
    return _making(path_of("sessions", session_id, "/fork"), **options)


def order(kind: str, identifier: str, what: str) -> Call:
    """An order that may be given again by its nature: `cancel` a turn, `pause` a session…"""
    return Call("POST", path_of(kind, identifier, f"/{what}"), repeatable=True)


def resolve(approval_id: str, decision: str, reason: str | None) -> Call:
    body = given(decision=decision, reason=reason)
    return Call("POST", path_of("approvals", approval_id), body=body, repeatable=True)


def inbox_entry(session_id: str, message_id: str, message: str | None) -> Call:
    """Change a message that waits, or take it back when there is nothing left to say."""
    path = path_of("sessions", session_id, f"/inbox/{quote(message_id, safe='')}")
    if message is None:
        return Call("DELETE", path, repeatable=True)
    return Call("PATCH", path, body={"message": message}, repeatable=True)


def read(path: str, **query: str | int | None) -> Call:
    return Call("GET", path, query=given(**query), repeatable=True)


def approvals(options: ApprovalFilter) -> Call:
    return Call("GET", "/api/v1/approvals", query=given(**options), repeatable=True)


# The workspace --------------------------------------------------------------------------------------


class ExecOptions(TypedDict, total=False):
    """Either a `command` for `sh -c`, or a `python` program; killed after `timeout_s`.

    With `keep` the program runs in the session's interpreter that lasts.
    """

    command: str | None
    python: str | None
    timeout_s: float | None
    keep: bool


def execute(session_id: str, options: ExecOptions) -> Call:
    """Never sent twice: nobody would know whether it ran. As a stream, which has a heartbeat however long it takes."""
    body = {**given(**options), "stream": True}
    return Call("POST", path_of("sessions", session_id, "/exec"), body=body, headers=dict(_SSE))


def file_list(session_id: str, path: str, limit: int) -> Call:
    query = given(path=path or None, limit=limit)
    return Call("GET", path_of("sessions", session_id, "/files"), query=query, repeatable=True)


def file(method: Literal["GET", "PUT"], session_id: str, path: str, data: bytes | None = None) -> Call:
    return Call(method, path_of("sessions", session_id, f"/files/{_quoted(path)}"), content=data, repeatable=True)


def removal(session_id: str, path: str, *, recursive: bool) -> Call:
    # Not sent again: a second time it is not found, which nobody could tell from a file that never was.
    query: dict[str, str | int] = {"recursive": "true"} if recursive else {}
    return Call("DELETE", path_of("sessions", session_id, f"/files/{_quoted(path)}"), query=query)


def _quoted(path: str) -> str:
    # Clients take `.` and `..` out of an address before they send it, and another file would be meant.
    if {".", ".."} & set(path.split("/")):
        raise errors.InvalidPath("a path has no . and no .. in it; it is relative to the workspace")
    return quote(path, safe="/")


def content_of(response: httpx.Response) -> bytes:
    """The bytes of a good answer."""
    if response.is_error:
        raise error_from(response.status_code, response.content)
    return response.content


def ending_of(event: str, data: Json) -> Json | None:
    """The result that this frame of a command's stream holds; None of any other frame. Raises what it tells."""
    if event == "error":
        raise told_in_stream(data)
    return {name: value for name, value in data.items() if name != "type"} if event == "result" else None


def session_stream(session_id: str, after: int) -> Call:
    return _stream(path_of("sessions", session_id, "/events"), after)


def turn_stream(turn_id: str, after: int) -> Call:
    return _stream(path_of("turns", turn_id, "/events"), after)


def _stream(path: str, after: int) -> Call:
    # No cursor where nothing was seen: the journal begins at what is there.
    headers = {**_SSE, **({"Last-Event-ID": str(after)} if after else {})}
    return Call("GET", path, headers=headers, repeatable=True)


# Answers --------------------------------------------------------------------------------------------


def error_from(status: int, content: bytes) -> GreenroomError:
    """The error that a problem document tells of; its other members become `details`."""
    try:
        problem: Any = json.loads(content)
        return _error(str(problem["code"]), str(problem["detail"]), {"status": status, **problem})
    except (ValueError, LookupError, TypeError):
        text = content[:200].decode(errors="replace").strip()
        kind = UnavailableError if status >= 500 else GreenroomError
        return kind(f"The server answered {status} without saying why: {text or 'no body'}", status=status)


def told_in_stream(data: Json) -> GreenroomError:
    """The error for which a stream ends before its time."""
    return _error(str(data.get("code")), str(data.get("message")), data)


def _error(code: str, message: str, members: Json) -> GreenroomError:
    details = {str(name): value for name, value in members.items() if name not in _TOLD}
    return _ERRORS.get(code, GreenroomError)(message, **details)


def answer_of(response: httpx.Response) -> Json:
    """The JSON object of a good answer. An answer 202 is the turn that still runs."""
    if response.is_error:
        raise error_from(response.status_code, response.content)
    return response.json() if response.content else {}


def report_of(response: httpx.Response) -> Json:
    """A 503 here is a report and not an error."""
    if response.status_code == 503 and "checks" in response.text:
        return response.json()
    return answer_of(response)


# Streams --------------------------------------------------------------------------------------------


class Shown:
    """What a reader has been shown of a turn, and so what of the next item is new to it."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._started_over: set[str] = set()

    def take(self, item: Item) -> str:
        """The text of this preview, or of this whole message or tool output, that was not shown yet.

        Empty as well when previews are missing in between, or when the text was started over: what comes
        with `message.completed` and `tool.completed` is the truth then, see `differs`.
        """
        key, offset, text = _preview(item)
        had = self._texts.get(key, "")
        if offset == 0 and not (had.startswith(text) or text.startswith(had)):
            self._started_over.add(key)
        if offset > len(had) or key in self._started_over:
            return ""
        new = text[len(had) - offset :]
        self._texts[key] = had + new
        return new

    def differs(self, item: Item) -> bool:
        """Whether what was shown of this completed message or tool is not how its whole text begins."""
        key, _, text = _preview(item)
        return not text.startswith(self._texts.get(key, ""))


def _preview(item: Item) -> tuple[str, int, str]:
    kind = "message" if item.type.startswith("message.") else "reasoning" if item.type == "reasoning.delta" else "tool"
    identifier = item.data.get("message_id") or item.data.get("tool_call_id")
    return f"{kind}:{identifier}", item.data.get("offset", 0), item.data.get("text", item.data.get("content", ""))
