"""What the scripted model server answers to one request, and that answer as bytes."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias, cast

Ending: TypeAlias = Literal["done", "eof", "hang", "reset", "comments"]

_ID = "gen-00000000"
"""Stands for the id in rendered bytes: a reply is rendered once and sent many times."""

USAGE = '"$usage"'
"""Stands in bytes of your own for what the answer used, so that the bill and the stream say the same."""

COMMENT = b": OPENROUTER PROCESSING\n\n"

_MOMENT = re.compile(rb"\$ms\+(\d+)")


@dataclass(frozen=True, slots=True)
class CallTool:
    """A tool call in a reply. `arguments` is JSON text, valid or not."""

    name: str
    arguments: str = "{}"
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, or one way to fail.

    An answer is `reasoning`, then `text`, one chunk per piece, then `tool_calls`, each in two fragments.
    `raw` replaces all of that by bytes of your own. `delay_s` passes before anything is sent, `gap_s`
    between chunks. `cut_after` sends only so many chunks; `ending` is what then happens: an answer that
    ends well, the end of the body, silence, a connection that is torn down, or comments without end. With
    `cut_after` 0 and ending `reset` not even the headers are sent. With `streamed` false the whole answer is
    one JSON object, whatever was asked for.

    `cost` is what `usage.cost` says: "auto" is by the server's price, None is null. `stops_on_abort`: a reader
    that goes away pays for what was sent and not for all. `lookup_misses` look-ups of the answer's record find
    nothing before one does.

    A `status` other than 200, and a `body`, is sent as JSON, with `headers`. In texts of `raw`, `body` and
    `headers`, `$ms+2000` becomes the moment two seconds from now, in milliseconds of the epoch.
    """

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[CallTool, ...] = ()
    finish_reason: str | None = None
    model: str | None = None
    provider: str | None = "Scripted"
    completion_tokens: int | None = None
    cost: Decimal | Literal["auto"] | None = "auto"
    delay_s: float = 0.0
    gap_s: float = 0.0
    cut_after: int | None = None
    ending: Ending = "done"
    raw: tuple[bytes, ...] = ()
    streamed: bool = True
    stops_on_abort: bool = False
    lookup_misses: int = 0
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = field(default=None, hash=False)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Reply":
        """The same members as JSON. `text` may be one string, `raw` is text, `headers` an object.

        Raises ValueError for members that there are not.
        """
        unknown = value.keys() - {member.name for member in fields(cls)}
        if unknown:
            raise ValueError(f"a reply has no {', '.join(sorted(unknown))}")
        members = dict(value)
        for name in ("text", "reasoning"):
            if name in members:
                members[name] = _pieces(members[name])
        if "tool_calls" in members:
            members["tool_calls"] = tuple(_call(call) for call in members["tool_calls"])
        if "raw" in members:
            members["raw"] = tuple(piece.encode() for piece in _pieces(members["raw"]))
        if "headers" in members:
            members["headers"] = tuple(members["headers"].items())
        if members.get("cost") not in ("auto", None):
            members["cost"] = Decimal(str(members["cost"]))
        return cls(**members)

    @property
    def is_plain(self) -> bool:
        """JSON of the script's own, which costs nothing."""
        return self.status != 200 or self.body is not None

    @property
    def is_silent(self) -> bool:
        """The connection is torn down before the headers."""
        return self.cut_after == 0 and self.ending == "reset"

    @property
    def finish(self) -> str:
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")

    @property
    def tokens(self) -> int:
        """Completion tokens, one per piece unless stated."""
        counted = len(self.reasoning) + len(self.text) + 10 * len(self.tool_calls)
        return counted if self.completion_tokens is None else self.completion_tokens


def stream_chunks(reply: Reply, model: str) -> tuple[bytes, ...]:
    """The events of a streamed answer up to its finish_reason, one by one, with a stand-in for the id."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning": piece} for piece in reply.reasoning]
    deltas += [{"content": piece} for piece in reply.text]
    for index, call in enumerate(reply.tool_calls):
        begun = {"index": index, "id": call.id or f"call_{index}", "type": "function"}
        deltas.append({"tool_calls": [{**begun, "function": {"name": call.name, "arguments": ""}}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": call.arguments}}]})
    head = {"id": _ID, "object": "chat.completion.chunk", "created": 0, "model": model, "provider": reply.provider}
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": reply.finish})
    return tuple(event({**head, "choices": [choice]}) for choice in choices)


def usage_chunk(model: str, usage: dict[str, Any]) -> bytes:
    return event({"id": _ID, "object": "chat.completion.chunk", "model": model, "choices": [], "usage": usage})


def whole_answer(reply: Reply, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request that does not ask for a stream."""
    tool_calls = [
        {
            "id": call.id or f"call_{at}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for at, call in enumerate(reply.tool_calls)
    ]
    message = {
        "role": "assistant",
        "content": "".join(reply.text) or None,
        "reasoning": "".join(reply.reasoning) or None,
        "tool_calls": tool_calls or None,
    }
    choice = {"index": 0, "message": message, "finish_reason": reply.finish}
    head = {"id": _ID, "object": "chat.completion", "created": 0, "model": model, "provider": reply.provider}
    return {**head, "choices": [choice], "usage": usage}


def event(chunk: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(chunk) + b"\n\n"


def encode(value: Any) -> bytes:
    # Decimal as a JSON number, as the real gateway writes it.
    return json.dumps(value, separators=(",", ":"), default=_number).encode()


def with_moments(rendered: bytes, now: datetime) -> bytes:
    """`$ms+N` becomes the moment N milliseconds from now."""
    if b"$ms+" not in rendered:
        return rendered
    return _MOMENT.sub(lambda found: str(int(now.timestamp() * 1000) + int(found[1])).encode(), rendered)


def with_id(rendered: bytes, generation_id: str) -> bytes:
    return rendered.replace(_ID.encode(), generation_id.encode())


def _number(value: Any) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _pieces(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(cast("Sequence[str]", value))


def _call(value: dict[str, Any]) -> CallTool:
    arguments = value.get("arguments", "{}")
    return CallTool(value["name"], arguments if isinstance(arguments, str) else json.dumps(arguments), value.get("id"))
