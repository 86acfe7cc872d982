"""Statuses and error bodies are sorted by cause, and causes become our errors."""

from datetime import UTC, datetime

import httpx
import pytest

from actors.core.errors import ModelProtocolError, ModelRefused, ModelUnavailable, UnknownModel
from actors.llm.failures import Cause, UpstreamFailure, as_error, of_error, of_response, of_transport

NOW = datetime(2026, 9, 23, 12, 0, tzinfo=UTC)
RESET_MS = str(int((NOW.timestamp() + 90) * 1000))

CREDIT = (
    "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only afford "
    "27342. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account"
)
CAPACITY = {
    "error": {
        "message": "All providers for anthropic/claude-sonnet-4.5 are at capacity. Retry after 40 seconds.",
        "error_type": "rate_limit_exceeded",
        "http_status": 429,
        "availability": {"code": "capacity_exhausted", "retryable": True, "retry_after": 40},
        "metadata": {"previous_errors": [{"provider": "anthropic", "code": "capacity_exhausted", "status": 429}]},
    }
}
DAILY = {
    "error": {
        "message": "Rate limit exceeded: free-models-per-day-high-balance. ",
        "code": 429,
        "metadata": {
            "headers": {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": RESET_MS},
            "limit_source": "openrouter_free_tier_daily",
            "provider_name": None,
        },
    },
    "user_id": "org_2abc",
}


def error(message: str, **members) -> dict:
    return {"error": {"message": message, **members}}


def failure(status: int, body: dict | None, **headers: str) -> UpstreamFailure:
    named = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return of_response(status, named, body, NOW)


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (400, error("bad", error_type="invalid_request"), Cause.REFUSED),
        (400, error("too long", code="context_length_exceeded"), Cause.REFUSED),
        (400, error("foo/bar is not a valid model ID", code=400), Cause.UNKNOWN_MODEL),
        (401, error("No auth credentials found", code=401), Cause.CREDENTIAL),
        (402, {**error(CREDIT, code=402, metadata={"provider_name": None}), "user_id": "user_1"}, Cause.CREDIT),
        (403, error("Key limit exceeded (total limit)", code=403), Cause.REFUSED),
        (404, error("The model `gpt-9` does not exist", code="model_not_found"), Cause.UNKNOWN_MODEL),
        (404, {"error": "model 'llama9' not found, try pulling it first"}, Cause.UNKNOWN_MODEL),
        (404, error("No endpoints found matching your data policy", code=404), Cause.REFUSED),
        (404, error("No endpoints now", availability={"retryable": True}), Cause.BUSY),
        (404, None, Cause.REFUSED),
        (408, None, Cause.AMBIGUOUS),
        (413, None, Cause.REFUSED),
        (422, {"detail": "unprocessable"}, Cause.REFUSED),
        (429, DAILY, Cause.QUOTA),
        (429, error("You exceeded your current quota", code="insufficient_quota"), Cause.CREDIT),
        (429, error("Rate limit exceeded", code=429, metadata={"error_type": "rate_limit_exceeded"}), Cause.BUSY),
        (429, CAPACITY, Cause.BUSY),
        (500, error("Internal Server Error", code=500), Cause.BROKEN),
        (502, None, Cause.BROKEN),
        (503, None, Cause.BUSY),
        (504, None, Cause.BROKEN),
        (524, None, Cause.AMBIGUOUS),
        (529, None, Cause.BUSY),
        (302, None, Cause.REFUSED),
    ],
)
def test_causes(status, body, cause):
    assert failure(status, body).cause is cause


def test_the_figure_of_402():
    assert failure(402, error(CREDIT)).affordable_tokens == 27342
    assert failure(402, error("no credit")).affordable_tokens is None


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (CAPACITY, {"retry_after": "7"}, 40.0),
        (None, {"retry_after": "7"}, 7.0),
        (None, {"retry_after": "7.5", "x_ratelimit_reset": RESET_MS}, 7.5),
        (None, {"retry_after": "Wed, 23 Sep 2026 12:00:30 GMT"}, 30.0),
        (None, {"retry_after": "Wed, 23 Sep 2026 11:00:00 GMT"}, 0.0),
        (None, {"x_ratelimit_reset": RESET_MS}, 90.0),
        (DAILY, {}, 90.0),
        (None, {"retry_after": "soon", "x_ratelimit_reset": "1s"}, None),
        (None, {"retry_after": "-5"}, None),
        (None, {"retry_after": "inf"}, None),
        (None, {}, None),
    ],
)
def test_when_the_server_wants_the_next_try(body, headers, seconds):
    assert failure(429, body, **headers).retry_after_s == seconds


def test_a_redirect_is_named():
    assert "https://elsewhere.test/v1" in failure(307, None, location="https://elsewhere.test/v1").message


def test_the_callers_error_says_what_is_known_and_no_user_id():
    made = as_error(failure(402, {**error(CREDIT), "user_id": "user_1"}), partial="", generation_id="gen-1")
    assert isinstance(made, ModelRefused)
    assert "can only afford 27342" in made.message
    assert "user_1" not in repr((made.message, made.details))
    assert made.details == {"cause": "credit", "status": 402, "generation_id": "gen-1", "free": True}


def test_a_long_message_is_cut():
    assert len(failure(500, error("x" * 10_000)).message) <= 500


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (Cause.UNREACHED, ModelUnavailable),
        (Cause.AMBIGUOUS, ModelUnavailable),
        (Cause.BUSY, ModelUnavailable),
        (Cause.BROKEN, ModelUnavailable),
        (Cause.GARBLED, ModelProtocolError),
        (Cause.CREDIT, ModelRefused),
        (Cause.QUOTA, ModelRefused),
        (Cause.CREDENTIAL, ModelRefused),
        (Cause.REFUSED, ModelRefused),
        (Cause.UNKNOWN_MODEL, UnknownModel),
    ],
)
def test_every_cause_has_an_error(cause, kind):
    made = as_error(UpstreamFailure(cause, "why"), partial="so far", generation_id=None)
    assert type(made) is kind
    assert made.details["partial"] == "so far"


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        (httpx.ConnectError("refused"), Cause.UNREACHED),
        (httpx.ConnectTimeout("slow"), Cause.UNREACHED),
        (httpx.PoolTimeout("full"), Cause.UNREACHED),
        (httpx.ReadError("reset"), Cause.AMBIGUOUS),
        (httpx.WriteError("reset"), Cause.AMBIGUOUS),
        (httpx.RemoteProtocolError("incomplete"), Cause.AMBIGUOUS),
        (httpx.DecodingError("gzip"), Cause.GARBLED),
    ],
)
def test_transport_errors(raised, cause):
    assert of_transport(raised).cause is cause


@pytest.mark.parametrize(
    "body", [{}, {"error": None}, {"error": []}, {"error": {"message": 5, "code": []}}, {"error": 7}]
)
def test_odd_bodies_are_described_by_their_status(body):
    assert failure(500, body).message == "status 500"


def test_what_a_server_says_can_be_stored():
    cut = of_error({"error": {"message": "bad input \ud83d\0"}}, status=400)
    assert cut.message == "bad input \ufffd\ufffd"
    assert UpstreamFailure(Cause.BROKEN, "\ud83d").message == "\ufffd"
