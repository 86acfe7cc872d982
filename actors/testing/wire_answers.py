"""Answers as an OpenRouter sends them: text, usage, costs, tool calls, reasoning."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .reply import COMMENT, CallTool, Reply, event

DONE = b"data: [DONE]\n\n"
HELLO = Reply(text=("Hel", "lo"))


@dataclass(frozen=True, slots=True)
class Fixture:
    """The replies to the requests of one call: what a client that asks again gets is part of it."""

    about: str
    replies: tuple[Reply, ...]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    """One chunk. `delta` None is a chunk without choices."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    choices = [] if delta is None else [{**choice, **members.pop("choice", {})}]
    head = {"id": "gen-00000000", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    return event({**head, "provider": "Scripted", "choices": choices, **members})


_USAGE = chunk(usage="$usage")
STOP = chunk({"content": ""}, "stop")


def raw(*pieces: bytes, tokens: int = 2, **members: Any) -> Reply:
    """A stream of bytes. `"$usage"` in them becomes what the bill says."""
    return Reply(raw=pieces, completion_tokens=tokens, **members)


def _calls(*fragments: dict[str, Any], finish: str = "tool_calls", **choice: Any) -> Reply:
    """One chunk for each fragment of a tool call."""
    chunks = [chunk({"tool_calls": [fragment]}) for fragment in fragments]
    return raw(*chunks, chunk({}, finish, choice=choice), _USAGE, DONE, tokens=20)


def _part(arguments: str, *, name: str | None = None, **where: Any) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**where, "function": function}


HEL = (chunk({"role": "assistant", "content": "Hel"}),)
_DETAIL = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
_SPLIT = (
    event({"choices": [{"index": 0, "delta": {"content": "Grüße 🎭"}}]})
    .replace(b"\\u00fc", "ü".encode())
    .replace(b"\\u00df", "ß".encode())
    .replace(b"\\ud83c\\udfad", "🎭".encode())
)
_SEPARATORS = chunk({"content": "$"}).replace(b"$", "a\u2028b\u2029c\x85d".encode())
_DEBUG = chunk(openrouter_debug={"provider": "Other", "status": 503})
_METADATA = {"attempts": [{"provider": "Other", "status": 503}, {"provider": "Scripted", "status": 200}]}

ANSWERS = {
    "plain": Fixture("One JSON object, although a stream was asked for.", (Reply(text=("Hello",), streamed=False),)),
    "streamed": Fixture(
        "Comments, deltas, the finish, then the usage, then [DONE].",
        (raw(COMMENT, COMMENT, *HEL, chunk({"content": "lo"}), STOP, _USAGE, DONE),),
    ),
    "split_in_a_character": Fixture(
        "The bytes of one character in several pieces.",
        (raw(*(_SPLIT[at : at + 1] for at in range(len(_SPLIT))), STOP, _USAGE, DONE),),
    ),
    "line_separators": Fixture(
        "U+2028, U+2029 and U+0085 in the text, which end no line.", (raw(_SEPARATORS, STOP, _USAGE, DONE),)
    ),
    "comments_then_a_token": Fixture(
        "Nothing but comments for 20 seconds, then the answer.",
        (raw(*[COMMENT] * 20, *HEL, chunk({"content": "lo"}), STOP, _USAGE, DONE, gap_s=1.0),),
    ),
    "comments_for_ever": Fixture(
        "Nothing but comments until the client gives up.",
        (raw(COMMENT, ending="comments", cost=Decimal(0)),),
    ),
    "usage_with_choices": Fixture(
        "Usage beside a choice; null before it.",
        (
            raw(
                chunk({"content": "Hel"}, usage=None),
                chunk({"content": "lo"}, usage=None),
                chunk({}, "stop", usage="$usage"),
                DONE,
            ),
        ),
    ),
    "cost_null": Fixture("The server names no cost.", (Reply(text=("Hel", "lo"), cost=None),)),
    "cost_zero": Fixture("It costs nothing, and the server says so.", (Reply(text=("Hel", "lo"), cost=Decimal(0)),)),
    "cost_tiny": Fixture(
        "A cost in scientific notation, 1.725e-05.", (Reply(text=("Hel", "lo"), cost=Decimal("0.00001725")),)
    ),
    "other_model": Fixture("Another model than asked for answers.", (Reply(text=("Hel", "lo"), model="scripted-b"),)),
    "metadata": Fixture(
        "A debug chunk for each provider that was tried, and openrouter_metadata with the usage.",
        (
            raw(
                _DEBUG,
                *HEL,
                chunk({"content": "lo"}),
                STOP,
                chunk(usage="$usage", openrouter_metadata=_METADATA),
                DONE,
            ),
        ),
    ),
    "end_without_done": Fixture(
        "The body ends after the usage, without [DONE].", (raw(*HEL, chunk({"content": "lo"}), STOP, _USAGE),)
    ),
    "late_record": Fixture(
        "A hanging stream whose record is found at the fourth look-up.",
        (Reply(text=("Hel", "lo"), cut_after=2, ending="hang", lookup_misses=3),),
    ),
    "stops_on_abort": Fixture(
        "A provider that stops when its reader goes away, and charges for what was sent.",
        (Reply(text=("word ",) * 100, gap_s=0.05, stops_on_abort=True),),
    ),
}

TOOLS = {
    "tool_call": Fixture(
        "The documented form: the id first, then arguments by index.",
        (
            _calls(
                _part("", name="get_weather", index=0, id="call_a", type="function"),
                _part('{"location":', index=0),
                _part('"Boston"}', index=0),
                native_finish_reason="tool_use",
            ),
        ),
    ),
    "tool_calls_on_one_index": Fixture(
        "A new id on an index that was used begins a new call.",
        (
            _calls(
                _part('{"n":', name="f", index=0, id="call_a"),
                _part("1}", index=0),
                _part('{"n":', name="g", index=0, id="call_b"),
                _part("2}", index=0),
            ),
        ),
    ),
    "tool_calls_without_index": Fixture(
        "No index at all: an id begins a call, what has none goes on with it.",
        (
            _calls(
                _part('{"n":', name="f", id="call_a"),
                _part("1}"),
                _part('{"n":', name="g", id="call_b"),
                _part("2}"),
            ),
        ),
    ),
    "tool_calls_shuffled": Fixture(
        "Fragments of two calls by turns, and one whose id does not belong to its index.",
        (
            _calls(
                _part('{"n"', name="f", index=1, id="call_a"),
                _part('{"n"', name="g", index=0, id="call_b"),
                _part(":1}", index=1),
                _part(":", index=0),
                _part("2}", index=7, id="call_b"),
            ),
        ),
    ),
    "tool_call_with_stop": Fixture(
        "A call whose finish_reason says stop, with empty arguments.",
        (_calls(_part("", name="f", index=0, id="call_a"), finish="stop"),),
    ),
    "tool_call_cut_short": Fixture(
        "A call in an answer that ended for its length: not to be run.",
        (_calls(_part('{"n":1}', name="f", index=0, id="call_a"), finish="length"),),
    ),
    "tool_call_garbled": Fixture(
        "Arguments that are no JSON, then a good call.",
        (
            _calls(_part('{"n":', name="f", index=0, id="call_a")),
            Reply(tool_calls=(CallTool("f", '{"n":1}', "call_a"),)),
        ),
    ),
}

REASONING = {
    "reasoning": Fixture(
        "One block in three fragments, the signature in the last one without text.",
        (
            raw(
                chunk({"reasoning": "Let", "reasoning_details": [{**_DETAIL, "text": "Let"}]}),
                chunk({"reasoning": " me think.", "reasoning_details": [{**_DETAIL, "text": " me think."}]}),
                chunk({"reasoning_details": [{**_DETAIL, "signature": "Et8BCmUIDxgC"}]}),
                chunk({"content": "391"}),
                STOP,
                _USAGE,
                DONE,
            ),
        ),
    ),
}
