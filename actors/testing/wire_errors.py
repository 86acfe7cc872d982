"""Failures as an OpenRouter sends them: before and after status 200, and connections that are reset."""

from decimal import Decimal
from typing import Any

from .reply import COMMENT, Reply, event
from .wire_answers import DONE, HEL, HELLO, STOP, Fixture, chunk, raw


def _error(status: int, message: str, *, headers: dict[str, str] | None = None, **members: Any) -> Reply:
    body = {"error": {"message": message, "code": status, **members}, "user_id": "user_2scripted"}
    return Reply(status=status, body=body, headers=tuple((headers or {}).items()))


def _broken(last: bytes, *, before: tuple[bytes, ...] = (), done: bool = True) -> Reply:
    """A stream that ends with an error; nothing of it is charged."""
    return raw(*before, last, *((DONE,) if done else ()), tokens=0, cost=Decimal(0))


_DAILY = {
    "headers": {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "$ms+90000"},
    "limit_source": "openrouter_free_tier_daily",
    "provider_name": None,
}
_CAPACITY = {
    "error_type": "rate_limit_exceeded",
    "http_status": 429,
    "availability": {
        "code": "capacity_exhausted",
        "retryable": True,
        "retry_after": 40,
        "requested_models": ["scripted"],
        "affected_providers": ["anthropic", "amazon-bedrock"],
        "fallback_models": ["scripted-b"],
    },
    "metadata": {"previous_errors": [{"provider": "anthropic", "code": "capacity_exhausted", "status": 429}]},
}
_CREDIT = (
    "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only afford "
    "2734. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid account"
)
_REFUSALS = {
    400: "This endpoint's maximum context length is 8192 tokens",
    401: "No auth credentials found",
    403: "Key limit exceeded (total limit)",
    404: "No endpoints found matching your data policy",
    413: "Request too large",
    422: "Unprocessable",
}
_FAILURES = {
    408: "Request timed out",
    500: "Internal Server Error",
    502: "Provider returned error",
    503: "No instances available",
    524: "A timeout occurred",
    529: "Overloaded",
}

BEFORE = {
    "too_little_credit": Fixture(
        "402 with the tokens that can be afforded, then an answer.", (_error(402, _CREDIT), HELLO)
    ),
    "daily_quota": Fixture(
        "429 until the day ends.",
        (_error(429, "Rate limit exceeded: free-models-per-day-high-balance. ", metadata=_DAILY),),
    ),
    "rate_limited": Fixture(
        "429 without a hint, then an answer.",
        (_error(429, "Rate limit exceeded", metadata={"error_type": "rate_limit_exceeded"}), HELLO),
    ),
    "rate_limited_until": Fixture(
        "429 with a reset in milliseconds of the epoch, as a header, then an answer.",
        (_error(429, "Rate limit exceeded", headers={"X-RateLimit-Reset": "$ms+3000"}), HELLO),
    ),
    "rate_limited_for": Fixture(
        "429 with Retry-After in seconds, then an answer.",
        (_error(429, "Rate limit exceeded", headers={"Retry-After": "2"}), HELLO),
    ),
    "at_capacity": Fixture(
        "429 of all providers, to be tried again in 40 seconds, which is longer than anybody waits.",
        (Reply(status=429, body={"error": {"message": "All providers are at capacity.", **_CAPACITY}}),),
    ),
    **{
        f"status_{status}": Fixture(f"{status}: {said}.", (_error(status, said),)) for status, said in _REFUSALS.items()
    },
    **{
        f"status_{status}": Fixture(f"{status}, then an answer.", (_error(status, said), HELLO))
        for status, said in _FAILURES.items()
    },
}

_LIMITED = {"code": 429, "message": "Rate limit exceeded", "metadata": {"error_type": "rate_limit_exceeded"}}
_GONE = {"code": 502, "message": "Provider disconnected mid-stream", "metadata": {"error_type": "provider_unavailable"}}
_PARTIAL = {
    "id": "gen-00000000",
    "model": "scripted",
    "choices": [
        {"message": {"role": "assistant", "content": "partial"}, "finish_reason": "error", "error": _GONE},
    ],
}

AFTER = {
    "error_chunk": Fixture(
        "The documented error in a stream, before any text, then an answer.",
        (_broken(chunk({"content": ""}, "error", error=_LIMITED)), HELLO),
    ),
    "error_chunk_after_text": Fixture(
        "The same after text, so that nobody may ask again.",
        (_broken(chunk({"content": ""}, "error", error=_LIMITED), before=HEL),),
    ),
    "error_chunk_without_choices": Fixture(
        "An error beside an empty list of choices, then an answer.", (_broken(chunk(error=_GONE)), HELLO)
    ),
    "bare_error": Fixture(
        "Nothing but an error, as other servers send it, without [DONE]; then an answer.",
        (_broken(event({"error": {"message": "Internal server error", "type": "internal_error"}}), done=False), HELLO),
    ),
    "partial_unstreamed": Fixture(
        "A JSON object with half an answer and an error, each time.", (Reply(body=_PARTIAL),)
    ),
    "error_with_200": Fixture("Status 200 and only an error, then an answer.", (Reply(body={"error": _GONE}), HELLO)),
    "silent_failure": Fixture(
        "It stops with nothing said and native_finish_reason network_error, then an answer.",
        (_broken(chunk({"content": ""}, "stop", choice={"native_finish_reason": "network_error"})), HELLO),
    ),
    "malformed_call": Fixture(
        "It stops with native_finish_reason MALFORMED_FUNCTION_CALL, then an answer.",
        (_broken(chunk({}, "stop", choice={"native_finish_reason": "MALFORMED_FUNCTION_CALL"})), HELLO),
    ),
    "empty_stop": Fixture("It stops with nothing said and no usage, then an answer.", (_broken(STOP), HELLO)),
    "eof_without_finish": Fixture("The body ends in the middle of the text.", (raw(*HEL, tokens=1),)),
    "garbage": Fixture("An event that is no JSON, then an answer.", (_broken(b"data: {\n\n"), HELLO)),
}

RESETS = {
    "reset_before_headers": Fixture(
        "The connection is reset before the headers, then an answer.", (Reply(cut_after=0, ending="reset"), HELLO)
    ),
    "reset_after_headers": Fixture(
        "The connection is reset after the headers, then an answer.",
        (raw(COMMENT, tokens=0, cost=Decimal(0), ending="reset"), HELLO),
    ),
    "reset_after_tokens": Fixture(
        "The connection is reset in the middle of the text.", (raw(*HEL, tokens=1, ending="reset"),)
    ),
}
