"""Every wire fixture against the client: what it makes of each, how often it asks, and what it was charged."""

import json
from decimal import Decimal

import pytest

from actors.core.errors import ModelProtocolError, ModelRefused, ModelUnavailable
from actors.core.messages import ToolCall, UserMessage
from actors.llm.base import ModelRequest
from actors.testing import ScriptedModelApp, StreamingASGITransport
from actors.testing.wire_faults import TRANSIENT
from actors.testing.wire_fixtures import FIXTURES

ANSWERS = {
    "plain": "Hello",
    "streamed": "Hello",
    "split_in_a_character": "Grüße 🎭",
    "line_separators": "a\u2028b\u2029c\x85d",
    "comments_then_a_token": "Hello",
    "usage_with_choices": "Hello",
    "cost_null": "Hello",
    "cost_zero": "Hello",
    "cost_tiny": "Hello",
    "other_model": "Hello",
    "metadata": "Hello",
    "end_without_done": "Hello",
    "stops_on_abort": "word " * 100,
    "reasoning": "391",
}
"""One request, one answer in text."""

CALLS = {
    "tool_call": (ToolCall("call_a", "get_weather", '{"location":"Boston"}'),),
    "tool_calls_on_one_index": (ToolCall("call_a", "f", '{"n":1}'), ToolCall("call_b", "g", '{"n":2}')),
    "tool_calls_without_index": (ToolCall("call_a", "f", '{"n":1}'), ToolCall("call_b", "g", '{"n":2}')),
    "tool_calls_shuffled": (ToolCall("call_a", "f", '{"n":1}'), ToolCall("call_b", "g", '{"n":2}')),
    "tool_call_with_stop": (ToolCall("call_a", "f", "{}"),),
    "tool_call_cut_short": (),
}
"""One request, one answer with calls."""

SECOND_TIME = {
    **dict.fromkeys(("status_408", "status_500", "status_502", "status_503", "status_524", "status_529"), "Hello"),
    **dict.fromkeys(("too_little_credit", "rate_limited", "rate_limited_until", "rate_limited_for"), "Hello"),
    **dict.fromkeys(("error_chunk", "error_chunk_without_choices", "bare_error", "error_with_200"), "Hello"),
    **dict.fromkeys(("silent_failure", "malformed_call", "empty_stop", "garbage"), "Hello"),
    **dict.fromkeys(("reset_before_headers", "reset_after_headers"), "Hello"),
    "tool_call_garbled": "",
}
"""The first request fails before anybody saw anything of it; the second is answered."""

ERRORS = {
    **{f"status_{status}": (ModelRefused, 1, "") for status in (400, 401, 403, 404, 413, 422)},
    "daily_quota": (ModelRefused, 1, ""),
    "at_capacity": (ModelUnavailable, 1, ""),
    "error_chunk_after_text": (ModelUnavailable, 1, "Hel"),
    "eof_without_finish": (ModelUnavailable, 1, "Hel"),
    "reset_after_tokens": (ModelUnavailable, 1, "Hel"),
    "late_record": (ModelUnavailable, 1, "Hel"),
    "comments_for_ever": (ModelUnavailable, 2, ""),
    "partial_unstreamed": (ModelUnavailable, 3, "partial"),
}
"""No answer: the error, the requests that were made, and the text that was kept."""


@pytest.fixture
def app(clock) -> ScriptedModelApp:
    return ScriptedModelApp(clock=clock)


@pytest.fixture
def play(app, make_client, ask):
    """Ask for a fixture and collect what comes."""
    client = make_client(transport=StreamingASGITransport(app))

    async def run(name):
        return await ask(client, ModelRequest("scripted", (UserMessage(json.dumps({"fixture": name})),)))

    return run


def test_every_fixture_is_in_one_table_here():
    tables = [*ANSWERS, *CALLS, *SECOND_TIME, *ERRORS]
    assert sorted(tables) == sorted(FIXTURES)


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers(play, app, name):
    outcome = await play(name)
    assert outcome.error is None
    assert outcome.text == outcome.answer.message.content == ANSWERS[name]
    assert app.bill.calls == 1
    assert outcome.answer.message.tool_calls == ()
    if outcome.answer.cost_source == "upstream":
        assert outcome.answer.cost_usd == app.bill.cost_usd
    assert outcome.answer.usage.completion_tokens == app.bill.completion_tokens


@pytest.mark.parametrize(
    ("name", "cost", "source"),
    [
        ("cost_null", None, "unknown"),
        ("cost_zero", Decimal(0), "upstream"),
        ("cost_tiny", Decimal("0.00001725"), "upstream"),
    ],
)
async def test_costs(play, name, cost, source):
    answer = (await play(name)).answer
    assert (answer.cost_usd, answer.cost_source) == (cost, source)


async def test_the_model_that_answered(play):
    assert (await play("other_model")).answer.model == "scripted-b"


async def test_20_seconds_of_comments(play, clock):
    assert (await play("comments_then_a_token")).text == "Hello"
    assert clock.monotonic() >= 20


@pytest.mark.parametrize("name", CALLS)
async def test_tool_calls(play, app, name):
    answer = (await play(name)).answer
    assert answer.message.tool_calls == CALLS[name]
    assert answer.cost_usd == app.bill.cost_usd > 0
    assert answer.finish_reason == ("tool_calls" if CALLS[name] else "length")


async def test_reasoning_in_three_fragments_is_one_block(play):
    outcome = await play("reasoning")
    assert outcome.reasoning == "Let me think."
    [block] = outcome.answer.message.reasoning_details
    assert (block["text"], block["signature"], block["index"]) == ("Let me think.", "Et8BCmUIDxgC", 0)


@pytest.mark.parametrize("name", SECOND_TIME)
async def test_what_is_answered_the_second_time(play, app, name):
    outcome = await play(name)
    assert outcome.error is None
    assert outcome.text == outcome.answer.message.content == SECOND_TIME[name]
    assert app.bill.calls == 2


@pytest.mark.parametrize(("name", "seconds"), [("rate_limited_until", 3), ("rate_limited_for", 2)])
async def test_the_servers_wish_is_waited_for(play, clock, name, seconds):
    assert (await play(name)).answer
    assert seconds <= clock.monotonic() < seconds + 1.5


async def test_credit_that_is_too_little_asks_for_less(play, app):
    assert (await play("too_little_credit")).answer
    assert [request["max_tokens"] for request in app.requests] == [4096, 2734]


@pytest.mark.parametrize("name", ERRORS)
async def test_errors(play, app, name):
    outcome = await play(name)
    kind, requests, text = ERRORS[name]
    assert outcome.answer is None
    assert type(outcome.error) is kind
    assert outcome.text == outcome.error.details.get("partial", "") == text
    assert app.bill.calls == requests
    assert "user_2scripted" not in repr((outcome.error.message, outcome.error.details))


async def test_a_quota_says_until_when(play):
    error = (await play("daily_quota")).error
    assert 80 <= error.details["retry_after_s"] <= 90


async def test_capacity_says_how_long(play):
    assert (await play("at_capacity")).error.details["retry_after_s"] == 40


@pytest.mark.parametrize("name", TRANSIENT)
async def test_faults_are_fixtures_that_a_client_survives(play, name):
    outcome = await play(name)
    assert outcome.answer or isinstance(outcome.error, ModelUnavailable | ModelProtocolError)
