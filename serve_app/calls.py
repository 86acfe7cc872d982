"""The HTTP API as data, for a client that mirrors it: what to send, and how to read what comes.

No I/O happens here. Errors are the classes of `actors.core.errors`, chosen by `code` from a closed
table: nothing on the wire can name a class.
"""

import json
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent

from actors.core import errors
from actors.core.errors import GreenroomError, UnavailableError

Json: TypeAlias = dict[str, Any]

TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})
"""Types of the event that ends a turn."""

_SSE = {"Accept": "text/event-stream", "Cache-Control": "no-store"}

_ERRORS: dict[str, type[GreenroomError]] = {
    error.code: error
    for error in (
        *(GreenroomError, errors.InvalidInput, errors.UnknownModel, errors.MessageTooLarge, errors.CursorExpired),
        *(errors.Unauthenticated, errors.Forbidden),
        *(errors.NotFoundError, errors.SessionNotFound, errors.TurnNotFound),
        *(errors.ConflictError, errors.Fenced, errors.NotHere, errors.SessionExists),
        *(errors.LimitError, errors.TurnLimit, errors.AtCapacity),
        *(UnavailableError, errors.ModelUnavailable, errors.ModelProtocolError, errors.ModelRefused),
        *(errors.SandboxUnavailable, errors.MemoryUnavailable, errors.StoreUnavailable),
        *(errors.SessionLost, errors.Draining),
    )
}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP exchange without the I/O."""

    method: str
    path: str
    body: Json | None = None
    query: dict[str, str | int] = field(default_factory=dict[str, str | int])
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Item:
    """What a stream yields: an event, whose number is `seq`, or a preview, which has none."""

    type: str
    seq: int | None
    data: Json

    @property
    def is_preview(self) -> bool:
        return self.seq is None


class ChatOptions(TypedDict, total=False):
    """What may go with a message. Without `session_id` a new session is made."""

    session_id: str | None
    model: str | None
    system: str | None
    metadata: Json | None


class SessionOptions(TypedDict, total=False):
    """What a new session may be given. `id` names it; creating the same id again changes nothing."""

    id: str | None
    model: str | None
    system: str | None
    metadata: Json | None


# Requests -------------------------------------------------------------------------------------------


def given(**members: Any) -> Json:
    return {name: value for name, value in members.items() if value is not None}


def path_of(kind: str, identifier: str, rest: str = "") -> str:
    return f"/api/v1/{kind}/{quote(identifier, safe='')}{rest}"


def chat(message: str, options: ChatOptions) -> Call:
    return Call("POST", "/api/v1/chat", body={"message": message, **given(**options)})


def chat_stream(message: str, options: ChatOptions) -> Call:
    body = {"message": message, "stream": True, **given(**options)}
    return Call("POST", "/api/v1/chat", body=body, headers=_SSE)


def session_stream(session_id: str, after: int) -> Call:
    headers = {**_SSE, "Last-Event-ID": str(after)}
    return Call("GET", path_of("sessions", session_id, "/events"), headers=headers)


def sessions(limit: int, after: str | None) -> Call:
    return Call("GET", "/api/v1/sessions", query=given(limit=limit, after=after))


def events(session_id: str, after: int, limit: int) -> Call:
    return Call("GET", path_of("sessions", session_id, "/events"), query={"after": after, "limit": limit})


# Answers --------------------------------------------------------------------------------------------


def error_from(status: int, content: bytes) -> GreenroomError:
    """The error that a problem document tells of; its other members become `details`."""
    try:
        problem: Any = json.loads(content)
        message, code = str(problem["detail"]), str(problem["code"])
    except (ValueError, LookupError, TypeError):
        text = content[:200].decode(errors="replace").strip()
        kind = UnavailableError if status >= 500 else GreenroomError
        return kind(f"The server answered {status} without saying why: {text or 'no body'}", status=status)
    told = {"type", "title", "detail", "code", "message"}
    details = {str(name): value for name, value in problem.items() if name not in told}
    return _ERRORS.get(code, GreenroomError)(message, **{"status": status, **details})


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


class Place:
    """Where a stream stands: makes the request that opens it, and those that go on with it."""

    def __init__(self, opening: Call, *, one_turn: bool, max_resumes: int, delay_s: float) -> None:
        self._opening, self._one_turn = opening, one_turn
        self._max_resumes, self._delay_s = max_resumes, delay_s
        self._session_id: str | None = None
        self._turn_id: str | None = None
        self._seq = int(opening.headers.get("Last-Event-ID", 0))
        self._resumes = 0
        self.done = False

    def call(self) -> Call:
        return self._opening if self._session_id is None else session_stream(self._session_id, self._seq)

    def take(self, sse: ServerSentEvent) -> Item | None:
        """The item of this frame; None when it has none, was seen before, or is of another turn."""
        if not sse.data:
            return None  # `retry:` alone comes as a frame too
        data: Json = sse.json()
        seq = data.get("seq")
        item = Item(str(data.get("type") or sse.event), seq, data)
        if self._one_turn and self._turn_id is None:
            self._turn_id = data.get("turn_id")
        if seq is not None:
            if seq <= self._seq:
                return None
            self._seq, self._session_id = seq, data["session_id"]
        self._resumes = 0
        if self._one_turn:
            if data.get("turn_id") != self._turn_id:
                return None
            self.done = item.type in TERMINAL
        return item

    def delay_after(self, error: Exception | None) -> float:
        """Seconds to wait before going on. Raises when that is not possible or no longer reasonable."""
        if isinstance(error, GreenroomError) and not error.retryable:
            raise error
        if self._session_id is None and self._one_turn:
            if isinstance(error, GreenroomError):
                raise error  # the server said no: the message was not taken
            raise UnavailableError(
                "The connection broke before the server confirmed the message. It may have been accepted: "
                "look at the session before sending it again."
            ) from error
        if self._resumes >= self._max_resumes:
            raise UnavailableError(f"The stream broke and {self._resumes} attempts to resume it failed.") from error
        self._resumes += 1
        return min(self._delay_s * 2 ** (self._resumes - 1), 5.0)


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
