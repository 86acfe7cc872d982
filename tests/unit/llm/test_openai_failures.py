"""The client when things go wrong: its clocks, its retries, and what it says in the end."""

import asyncio

import httpx
import pytest

from actors.core.errors import ModelProtocolError, ModelRefused, ModelUnavailable
from actors.llm.base import Resending, Retrying

DONE = b"data: [DONE]\n\n"
COMMENT = b": OPENROUTER PROCESSING\n\n"


# Clocks ---------------------------------------------------------------------------------------------


async def test_comments_for_ever_end_at_the_first_tokens_deadline(ask, upstream, clock):
    async def comments_for_20_s():
        await clock.sleep(20)

    for _ in range(2):
        upstream.stream(*[step for _ in range(20) for step in (COMMENT, comments_for_20_s)])
    outcome = await ask()
    assert isinstance(outcome.error, ModelUnavailable)
    assert "no token for 60 s" in outcome.error.message
    assert len(upstream.requests) == 2, "one attempt more, as after a 408"
    assert 120 <= clock.monotonic() < 125
    assert all(body.closed for body in upstream.bodies)


async def test_comments_for_20_s_and_then_a_token(ask, upstream, clock, whole):
    async def pause():
        await clock.sleep(5)

    upstream.stream(*[step for _ in range(4) for step in (COMMENT, pause)], *whole)
    assert (await ask()).answer.message.content == "Hello"


async def test_silence_before_the_headers_ends_too(ask, upstream, clock):
    upstream.fail(asyncio.Event().wait)
    upstream.fail(asyncio.Event().wait)
    outcome = await ask()
    assert isinstance(outcome.error, ModelUnavailable)
    assert clock.monotonic() >= 120


async def test_silence_between_tokens_fails_with_the_text_so_far(ask, upstream, clock, event):
    upstream.stream(event(content="Hel"), event(content="lo"), COMMENT, asyncio.Event().wait)
    outcome = await ask()
    assert isinstance(outcome.error, ModelUnavailable)
    assert outcome.error.details["partial"] == "Hello"
    assert len(upstream.requests) == 1
    assert 30 <= clock.monotonic() < 32


async def test_empty_deltas_are_no_tokens(ask, upstream, clock, event):
    async def pause():
        await clock.sleep(10)

    upstream.stream(event(content="Hi"), *[step for _ in range(9) for step in (event(content=""), pause)])
    assert "no further token" in (await ask()).error.message


async def test_a_trickle_ends_with_the_whole_call(ask, upstream, clock, event):
    async def pause():
        await clock.sleep(25)

    upstream.stream(*[step for _ in range(30) for step in (event(content="x"), pause)])
    outcome = await ask()
    assert "no whole answer within 240 s" in outcome.error.message
    assert len(outcome.items) == 10


# Retries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "attempts"),
    [
        *((status, 1) for status in (400, 401, 402, 403, 404, 413, 422)),
        *((status, 2) for status in (408, 524)),
        *((status, 3) for status in (429, 500, 502, 503, 529)),
    ],
)
async def test_statuses_are_retried_within_limits(ask, upstream, status, attempts):
    for _ in range(5):
        upstream.json(status, {"error": {"message": "no", "code": status}})
    outcome = await ask()
    assert outcome.error.details["status"] == status
    assert isinstance(outcome.error, ModelRefused if attempts == 1 else ModelUnavailable)
    assert len(upstream.requests) == attempts


@pytest.mark.parametrize(
    ("status", "outcome", "free"),
    [(429, "model_unavailable", True), (500, "model_unavailable", False), (408, "model_unavailable", False)],
)
async def test_each_further_attempt_is_told_before_it_is_sent(ask, upstream, whole, status, outcome, free):
    upstream.json(status, {"error": {"message": "no", "code": status}})
    upstream.stream(*whole)

    asked = await ask()

    assert asked.items[:2] == [Retrying(outcome, free), Resending()]
    assert [item for item in asked.items if isinstance(item, Retrying | Resending)] == asked.items[:2]


@pytest.mark.parametrize(("status", "free"), [(429, True), (402, True), (500, False), (408, False)])
async def test_the_error_says_whether_the_last_attempt_was_surely_not_billed(ask, upstream, status, free):
    for _ in range(3):
        upstream.json(status, {"error": {"message": "no", "code": status}})
    assert (await ask()).error.details.get("free", False) is free


async def test_nothing_is_said_to_be_free_once_text_was_given(ask, upstream, event):
    upstream.stream(event(content="Hel"), b'data: {"error":{"code":429,"message":"slow down"}}\n\n')
    assert "free" not in (await ask()).error.details


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ReadError("reset")])
async def test_a_broken_connection_is_tried_again(ask, upstream, failure, whole):
    upstream.fail(failure)
    upstream.stream(*whole)
    assert (await ask()).answer.message.content == "Hello"


@pytest.mark.parametrize(
    "steps",
    [
        [httpx.ReadError("reset")],
        [COMMENT, httpx.RemoteProtocolError("incomplete")],
        [b'data: {"error":{"code":429,"message":"Rate limit exceeded"},"choices":[]}\n\n'],
        [b"data: not json\n\n"],
        [b"data: [1]\n\n"],
        [DONE],
        [],
    ],
    ids=["reset", "comment and reset", "error chunk", "garbage", "no object", "only done", "nothing"],
)
async def test_a_stream_that_fails_before_its_first_token_is_tried_again(ask, upstream, whole, steps):
    upstream.stream(*steps)
    upstream.stream(*whole)
    outcome = await ask()
    assert outcome.answer.message.content == outcome.text == "Hello"


@pytest.mark.parametrize(
    ("last", "error"),
    [
        ([httpx.ReadError("reset")], ModelUnavailable),
        ([b'data: {"error":{"code":502,"message":"Provider disconnected"},"choices":[]}\n\n', DONE], ModelUnavailable),
        ([b'data: {"error":{"message":"Internal server error","type":"internal_error"}}\n\n'], ModelUnavailable),
        ([b"data: {\n\n"], ModelProtocolError),
        ([], ModelUnavailable),
    ],
    ids=["reset", "error chunk", "bare error", "garbage", "the end, without finish and [DONE]"],
)
async def test_nothing_starts_over_once_text_was_given(ask, upstream, event, last, error):
    upstream.stream(event(content="Hel"), event(content="lo"), *last, x_generation_id="gen-9")
    outcome = await ask()
    assert isinstance(outcome.error, error)
    assert outcome.error.details["partial"] == outcome.text == "Hello"
    assert outcome.error.details["generation_id"] == "gen-9"
    assert len(upstream.requests) == 1


async def test_calls_of_a_stream_that_broke_off_are_never_given(ask, upstream, event):
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    upstream.stream(event(content="I will"), event(tool_calls=[call]))
    outcome = await ask()
    assert outcome.answer is None
    assert isinstance(outcome.error, ModelUnavailable)


async def test_retry_after_is_waited_for(ask, upstream, clock, whole):
    upstream.json(429, {"error": {"message": "slow down", "code": 429}}, retry_after="7")
    upstream.stream(*whole)
    assert (await ask()).answer
    assert 7 <= clock.monotonic() <= 8


async def test_a_long_retry_after_is_told_instead(ask, upstream, clock):
    upstream.json(429, {"error": {"message": "slow down", "code": 429}}, retry_after="3600")
    outcome = await ask()
    assert isinstance(outcome.error, ModelUnavailable)
    assert outcome.error.details["retry_after_s"] == 3600
    assert clock.monotonic() < 1


async def test_the_daily_quota_is_not_tried_again(ask, upstream):
    upstream.json(429, {"error": {"message": "Rate limit exceeded: free-models-per-day. ", "code": 429}})
    assert isinstance((await ask()).error, ModelRefused)


async def test_too_little_credit_asks_for_a_smaller_answer_once(ask, upstream, whole):
    upstream.json(
        402, {"error": {"message": "You requested up to 4096 tokens, but can only afford 2734.", "code": 402}}
    )
    upstream.stream(*whole)
    assert (await ask()).answer
    assert [upstream.sent(number)["max_tokens"] for number in (0, 1)] == [4096, 2734]


async def test_an_error_with_status_200(ask, upstream):
    upstream.json(200, {"error": {"code": 400, "message": "bad"}})
    assert isinstance((await ask()).error, ModelRefused)


async def test_a_web_page_is_no_answer(ask, upstream):
    for _ in range(2):
        upstream.responses.append(httpx.Response(200, html="<html>"))
    assert "is the base URL right?" in (await ask()).error.message


async def test_the_key_is_in_no_error(ask, upstream):
    upstream.json(401, {"error": {"message": "Incorrect API key provided: sk-secret", "code": 401}})
    error = (await ask()).error
    assert "sk-secret" not in repr((error.message, error.details))
