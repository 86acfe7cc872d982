"""Streams as a fuzzer makes them: one answer in every form of the grammar, and beyond it an error of ours."""

import asyncio
import itertools
import json

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.core.errors import GreenroomError
from actors.core.messages import ToolCall, UserMessage
from actors.llm.base import Answer, ModelRequest, TextDelta
from actors.llm.deadlines import Timeouts
from actors.llm.openai import OpenAIClient
from actors.llm.retries import RetryPolicy

REQUEST = ModelRequest("m", (UserMessage("hi"),))
TEXT = "Grüße \u2028 日本 🎭, and\r\nso on"
CALLS = (ToolCall("call_a", "f", '{"x": "é 🎭"}'), ToolCall("call_b", "g", '{"y":[1,2]}'))
NOISE = (b": OPENROUTER PROCESSING\n\n", b": \n", b"\n", b"event: x\nid: 7\nretry: 9\n\n", b'data: {"choices":[]}\n\n')


def chunk(delta=None, finish=None, **members):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "gen-1", "choices": choices, **members}, ensure_ascii=False).encode() + b"\n\n"


def split(text, cuts):
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@st.composite
def streams(draw):
    """One answer in many forms: text and calls in any pieces, mixed as the grammar allows, with noise anywhere."""
    cuts = st.lists(st.integers(0, 50), max_size=6)
    lanes = [[chunk({"content": piece}) for piece in split(TEXT, draw(cuts))]]
    for index, call in enumerate(CALLS):
        first = {"index": index, "id": call.id, "function": {"name": call.name, "arguments": ""}}
        rest = [{"index": index, "function": {"arguments": part}} for part in split(call.arguments, draw(cuts))]
        lanes.append([chunk({"tool_calls": [fragment]}) for fragment in (first, *rest)])
    events = []
    while any(lanes):  # each lane keeps its order, and the second call begins after the first
        began = any(b"call_a" in event for event in events)
        open_lanes = [number for number, lane in enumerate(lanes) if lane and (number < 2 or began)]
        events.append(lanes[draw(st.sampled_from(open_lanes))].pop(0))
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "cost": 0.001}}
    events += [chunk({}, "tool_calls", **usage)] if draw(st.booleans()) else [chunk({}, "tool_calls"), chunk(**usage)]
    for at in sorted(draw(st.lists(st.integers(0, len(events)), max_size=5)), reverse=True):
        events.insert(at, draw(st.sampled_from(NOISE)))
    whole = b"".join([*events, *([b"data: [DONE]\n\n"] if draw(st.booleans()) else [])])
    line_end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    return split(whole.replace(b"\n", line_end), draw(st.lists(st.integers(0, 5000), max_size=20)))


class Body(httpx.AsyncByteStream):
    def __init__(self, pieces):
        self.pieces = pieces

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece


async def hear(pieces, status=200, content_type="text/event-stream"):
    """What a client without patience makes of a body: its items, and our error if there was one."""

    def respond(request):
        return httpx.Response(status, headers={"content-type": content_type}, stream=Body(pieces))

    client = OpenAIClient(
        base_url="http://m.test",
        default_model="m",
        transport=httpx.MockTransport(respond),
        timeouts=Timeouts(first_token_s=5, idle_s=5, total_s=5),
        retries=RetryPolicy(first_wait_s=0.0001, longest_hint_s=0.0),
    )
    items = []
    try:
        async for item in client.stream(REQUEST):
            items.append(item)
    except GreenroomError as error:
        return items, error
    finally:
        await client.aclose()
    return items, None


@settings(max_examples=150, deadline=None)
@given(streams())
def test_the_same_answer_in_every_form(pieces):
    items, error = asyncio.run(hear(pieces))
    assert error is None
    *deltas, answer = items
    assert isinstance(answer, Answer)
    assert answer.message.content == "".join(item.text for item in deltas if isinstance(item, TextDelta)) == TEXT
    assert answer.message.tool_calls == CALLS
    assert (answer.usage.total_tokens, answer.cost_source) == (7, "upstream")


def honest(items, error):
    """Either an answer whose calls are whole, or an error that names the text so far; never both."""
    answers = [item for item in items if isinstance(item, Answer)]
    assert len(answers) == (error is None)
    text = "".join(item.text for item in items if isinstance(item, TextDelta))
    if error is None:
        assert items[-1] is answers[0]
        assert answers[0].message.content == text
        assert all(isinstance(json.loads(call.arguments), dict) for call in answers[0].message.tool_calls)
    else:
        assert error.details.get("partial", "") == text


@settings(max_examples=100, deadline=None)
@given(streams(), st.integers(0, 5000))
def test_a_stream_that_is_cut_anywhere(pieces, at):
    whole = b"".join(pieces)
    items, error = asyncio.run(hear([whole[: at % len(whole)]]))
    honest(items, error)


@settings(max_examples=100, deadline=None)
@given(streams(), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6), st.randoms())
def test_a_stream_with_bytes_changed_and_pieces_out_of_order(pieces, changes, dice):
    if dice.random() < 0.5:
        dice.shuffle(pieces)
    damaged = bytearray(b"".join(pieces))
    for at, value in changes:
        damaged[at % len(damaged)] = value
    items, error = asyncio.run(hear([bytes(damaged)]))
    honest(items, error)


MEMBERS = st.sampled_from(
    """
    id object model provider choices index delta message content role finish_reason native_finish_reason tool_calls
    function name arguments reasoning reasoning_details type text signature data usage prompt_tokens completion_tokens
    cost error code metadata error_type availability retryable retry_after headers provider_name previous_errors
    """.split()  # noqa: SIM905  one word per line would hide what is there
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
CHUNK = st.dictionaries(MEMBERS, JSON, max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHUNK | JSON, max_size=5), st.sampled_from([200, 400, 402, 429, 500]), st.booleans())
@example(chunks=[{"choices": [{"delta": {"tool_calls": [None, 7]}}]}], status=200, streamed=True)
def test_json_of_any_form(chunks, status, streamed):
    if streamed:
        pieces = [b"data: " + json.dumps(value).encode() + b"\n\n" for value in chunks]
        kind = "text/event-stream"
    else:
        pieces, kind = [json.dumps(value).encode() for value in chunks[:1]], "application/json"
    items, error = asyncio.run(hear(pieces, status, kind))
    honest(items, error)
