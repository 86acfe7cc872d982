"""Chunks become an answer: text, reasoning, usage, finish reasons, and what must count as a failure."""

import json
from decimal import Decimal

import pytest

from actors.core.messages import ToolCall, Usage
from actors.llm.answer import AnswerAssembler
from actors.llm.base import Answer, ReasoningText, TextDelta
from actors.llm.failures import Cause, UpstreamFailure
from actors.llm.json_values import parse_object


def chunk(*, finish=None, native=None, usage=None, choices=None, **delta) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "native_finish_reason": native}
    made = {
        "id": "gen-1",
        "model": "vendor/m-2026",
        "provider": "P",
        "choices": [choice] if choices is None else choices,
    }
    return made if usage is None else {**made, "usage": usage}


def assemble(*chunks: dict) -> Answer:
    assembler = AnswerAssembler("m")
    for one in chunks:
        parsed = parse_object(json.dumps(one))
        assert parsed is not None
        assembler.feed(parsed)
    return assembler.finish()


CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
USAGE = {"prompt_tokens": 13, "completion_tokens": 34, "total_tokens": 47}


def test_a_plain_answer():
    answer = assemble(
        chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk(finish="stop")
    )
    assert (answer.message.content, answer.finish_reason, answer.model) == ("Hello", "stop", "vendor/m-2026")
    assert (answer.provider, answer.generation_id, answer.cost_usd, answer.cost_source) == (
        "P",
        "gen-1",
        None,
        "unknown",
    )


def test_what_a_chunk_brings_is_returned_at_once():
    assembler = AnswerAssembler("m")
    assert assembler.feed(chunk(role="assistant", content="")) == []
    assert assembler.feed(chunk(reasoning="hm", content="Hi")) == [ReasoningText("hm"), TextDelta("Hi")]
    assert assembler.text == "Hi"


def test_unknown_members_and_values_are_ignored():
    answer = assemble(
        {"choices": [], "debug": {"echo": 1}},
        {**chunk(content="x", novelty={"a": 1}), "openrouter_metadata": {"attempts": []}},
        chunk(finish="brand_new_reason"),
    )
    assert (answer.message.content, answer.finish_reason) == ("x", "brand_new_reason")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("a\u2028b", "a\u2028b"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        (7, ""),
    ],
)
def test_shapes_of_content(content, text):
    assert assemble(chunk(content=content), chunk(content="."), chunk(finish="stop")).message.content == text + "."


# Usage and cost -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        [chunk(finish="stop"), chunk(choices=[], usage=USAGE)],
        [chunk(finish="stop", usage=USAGE)],
        [chunk(finish="stop", usage={"prompt_tokens": 1}), chunk(choices=[], usage=USAGE)],
        [chunk(finish="stop", usage=USAGE), {"choices": [], "usage": None}],
    ],
    ids=["without choices", "with choices", "the last one counts", "null does not count"],
)
def test_usage_after_the_finish(last):
    assert assemble(chunk(content="x"), *last).usage == Usage(13, 34)


def test_details_of_usage():
    usage = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    assert assemble(chunk(content="x", finish="stop", usage=usage)).usage == Usage(13, 34, 5, 7)


@pytest.mark.parametrize(
    ("cost", "expected", "source"),
    [
        ("null", None, "unknown"),
        ("0", Decimal(0), "upstream"),
        ("0.0", Decimal("0.0"), "upstream"),
        ("1.725e-05", Decimal("0.00001725"), "upstream"),
        ("0.00014", Decimal("0.00014"), "upstream"),
        ('"0.5"', Decimal("0.5"), "upstream"),
        ("-1", None, "unknown"),
        ("1e999999", None, "unknown"),
        ("NaN", None, "unknown"),
        ("true", None, "unknown"),
    ],
)
def test_cost_is_an_exact_decimal_or_unknown(cost, expected, source):
    assembler = AnswerAssembler("m")
    body = parse_object(
        f'{{"choices":[{{"delta":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{{"cost":{cost}}}}}'
    )
    assert body is not None
    assembler.feed(body)
    answer = assembler.finish()
    assert (answer.cost_usd, answer.cost_source) == (expected, source)


@pytest.mark.parametrize("odd", [-3, "many", None, 2.5, True, [], {}])
def test_odd_token_counts_do_no_harm(odd):
    usage = assemble(
        chunk(content="x", finish="stop", usage={"prompt_tokens": odd, "prompt_tokens_details": odd})
    ).usage
    assert usage.prompt_tokens in (0, 2)


# Tool calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
def test_calls_count_whatever_the_finish_says(finish):
    answer = assemble(chunk(content=None, tool_calls=[CALL]), chunk(finish=finish, native="tool_use"))
    assert answer.message.tool_calls == (ToolCall("a", "f", '{"x":1}'),)
    assert (answer.finish_reason, answer.native_finish_reason) == ("tool_calls", "tool_use")


@pytest.mark.parametrize("finish", ["length", "max_tokens", "content_filter"])
def test_calls_of_an_answer_that_was_cut_short_are_dropped(finish):
    answer = assemble(chunk(content="I will", tool_calls=[CALL]), chunk(finish=finish))
    assert answer.message.tool_calls == ()
    assert answer.finish_reason in ("length", "content_filter")
    assert answer.message.content == "I will"


def test_a_call_that_is_not_json_is_no_answer():
    broken = {**CALL, "function": {"name": "f", "arguments": '{"x":'}}
    with pytest.raises(UpstreamFailure) as failed:
        assemble(chunk(tool_calls=[broken]), chunk(finish="tool_calls"))
    assert failed.value.cause is Cause.GARBLED


def test_a_finish_of_tool_calls_without_calls_is_a_stop():
    assert assemble(chunk(content="x"), chunk(finish="tool_calls")).finish_reason == "stop"


# Reasoning ------------------------------------------------------------------------------------------


def details(*fragments) -> dict:
    return chunk(reasoning="".join(one.get("text", "") for one in fragments) or None, reasoning_details=list(fragments))


def test_three_fragments_are_one_block_with_its_signature():
    common = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    answer = assemble(
        details({**common, "text": "Let"}),
        details({**common, "text": " me compute 17 * 23."}),
        details({**common, "signature": "Et8BCmUIDxgC..."}),
        chunk(content="391", finish="stop"),
    )
    assert answer.reasoning == "Let me compute 17 * 23."
    assert answer.message.reasoning_details == (
        {**common, "text": "Let me compute 17 * 23.", "signature": "Et8BCmUIDxgC..."},
    )


def test_blocks_keep_their_order_and_their_kind():
    answer = assemble(
        details({"type": "reasoning.summary", "summary": "a", "index": 0}),
        details({"type": "reasoning.encrypted", "data": "X", "id": "rs_1", "index": 0}),
        details(
            {"type": "reasoning.text", "text": "b", "index": 1}, {"type": "reasoning.text", "text": "c", "index": 1}
        ),
        details({"type": "reasoning.encrypted", "data": "Y", "id": "rs_2", "index": 0}),
        chunk(content="x", finish="stop"),
    )
    kept = [
        (block["type"], block.get("summary") or block.get("text") or block.get("data"))
        for block in answer.message.reasoning_details
    ]
    assert kept == [
        ("reasoning.summary", "a"),
        ("reasoning.encrypted", "X"),
        ("reasoning.text", "bc"),
        ("reasoning.encrypted", "Y"),
    ]


def test_fragments_without_an_index_are_joined_while_they_follow_each_other():
    answer = assemble(
        details({"type": "reasoning.text", "text": "a"}),
        details({"type": "reasoning.text", "text": "b", "signature": None}),
        details({"type": "reasoning.text", "signature": "s"}),
        details({"type": "reasoning.encrypted", "data": "X"}),
        details({"type": "reasoning.text", "text": "c"}),
        chunk(content="x", finish="stop"),
    )
    assert answer.message.reasoning_details == (
        {"type": "reasoning.text", "text": "ab", "signature": "s"},
        {"type": "reasoning.encrypted", "data": "X"},
        {"type": "reasoning.text", "text": "c"},
    )


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm", "index": 0}]},
    ],
)
def test_reasoning_is_shown_under_each_of_its_names(delta):
    assert AnswerAssembler("m").feed(chunk(**delta)) == [ReasoningText("hm")]


def test_reasoning_blocks_of_an_answer_that_was_cut_short_are_dropped():
    block = {"type": "reasoning.text", "text": "a", "index": 0}
    answer = assemble(details(block), chunk(content="x", finish="length"))
    assert answer.message.reasoning_details == ()
    assert answer.reasoning == "a"


# Failures in a response of status 200 ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "cause"),
    [
        pytest.param(
            [{**chunk(content="", finish="error"), "error": {"code": 429, "message": "Rate limit exceeded"}}],
            Cause.BUSY,
            id="an error beside choices",
        ),
        pytest.param(
            [{"error": {"code": 502, "message": "..."}, "choices": []}], Cause.BROKEN, id="an error without choices"
        ),
        pytest.param([{"error": {"message": "Internal", "type": "internal_error"}}], Cause.BROKEN, id="a bare error"),
        pytest.param([{"error": {"code": "server_error", "message": "x"}}], Cause.BROKEN, id="a code in words"),
        pytest.param([{"error": {"code": "502", "message": "x"}}], Cause.BROKEN, id="a code in digits"),
        pytest.param([{"error": {"code": 400, "message": "x"}}], Cause.REFUSED, id="a refusal"),
        pytest.param([{"error": "out of memory"}], Cause.BROKEN, id="an error that is text"),
        pytest.param([{"object": "error", "message": "x", "code": 503}], Cause.BUSY, id="an error as the whole object"),
        pytest.param(
            [
                {
                    "choices": [
                        {
                            "message": {"content": "partial"},
                            "finish_reason": "error",
                            "error": {"code": 502, "message": "x"},
                        }
                    ]
                }
            ],
            Cause.BROKEN,
            id="an error in the choice",
        ),
        pytest.param([chunk(content="partial"), chunk(finish="error")], Cause.BROKEN, id="finish error"),
        pytest.param(
            [chunk(content="x"), chunk(finish="stop", native="network_error")], Cause.BROKEN, id="network_error"
        ),
        pytest.param(
            [chunk(content="x"), chunk(finish="stop", native="MALFORMED_FUNCTION_CALL")],
            Cause.GARBLED,
            id="malformed call",
        ),
        pytest.param([chunk(content="", finish="stop")], Cause.GARBLED, id="nothing at all"),
    ],
)
def test_failures_that_look_like_success(chunks, cause):
    with pytest.raises(UpstreamFailure) as failed:
        assemble(*chunks)
    assert failed.value.cause is cause


def test_an_empty_answer_with_usage_is_an_answer():
    assert assemble(chunk(content="", finish="stop", usage=USAGE)).message.content == ""


def test_a_refusal_is_text_and_a_content_filter():
    answer = assemble(chunk(content=None, refusal="I will not."), chunk(finish="stop"))
    assert (answer.message.content, answer.finish_reason) == ("I will not.", "content_filter")


def test_a_whole_unstreamed_answer():
    message = {"role": "assistant", "content": "Hello there!", "refusal": None, "reasoning": None, "tool_calls": None}
    body = {
        "id": "gen-2",
        "model": "m2",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": USAGE,
    }
    answer = assemble(body)
    assert (answer.message.content, answer.generation_id, answer.usage) == ("Hello there!", "gen-2", Usage(13, 34))


def test_names_that_a_server_cut_can_be_stored():
    assembler = AnswerAssembler("m")
    choice = {"delta": {"content": "Hi"}, "finish_reason": "st\ud83d"}
    assembler.feed({"id": "gen\0", "model": "m\ud83d", "provider": "p\ud83d", "choices": [choice]})
    answer = assembler.finish()
    named = (answer.generation_id, answer.model, answer.provider, answer.finish_reason)
    assert named == ("gen\ufffd", "m\ufffd", "p\ufffd", "st\ufffd")


def test_halves_of_a_character_in_two_pieces_of_reasoning_stay_whole():
    assembler = AnswerAssembler("m")
    for half in ("\ud83d", "\ude00"):
        assembler.feed({"choices": [{"delta": {"content": "x", "reasoning": half}}]})
    assert assembler.finish().reasoning == "\ud83d\ude00"
