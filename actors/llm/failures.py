"""What can go wrong at a model server: transport errors, statuses and error bodies, sorted by cause.

`Cause` is what the rest decides by: whether to try again (`retries.py`) and which of our errors the
caller gets (`as_error`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import httpx

from ..core.errors import GreenroomError, ModelProtocolError, ModelRefused, ModelUnavailable, UnknownModel
from ..core.text import mended, storable
from .base import Retrying
from .breakers import BreakerOpen
from .json_values import as_list, as_object, as_seconds, as_text

_MESSAGE_CHARS = 500
_A_MOMENT_S = 1e9
"""A number from here on is a moment since 1970, a smaller one would be a span."""
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
_AFFORDABLE = re.compile(r"can only afford (\d+)")
_NO_SUCH_MODEL = re.compile(
    r"not a valid model|no such model|\bmodel\b.{0,200}?\b(not found|not exist)", re.IGNORECASE | re.DOTALL
)
_UNKNOWN_MODEL_CODES = {"model_not_found", "unknown_model", "model_not_exist"}


class Cause(StrEnum):
    """Why there is no answer."""

    UNREACHED = "unreached"  # nothing was sent
    AMBIGUOUS = "ambiguous"  # it may have run, and been billed
    BUSY = "busy"
    BROKEN = "broken"  # the server says that it failed
    GARBLED = "garbled"  # what came is not an answer
    CREDIT = "credit"
    QUOTA = "quota"
    CREDENTIAL = "credential"
    REFUSED = "refused"
    UNKNOWN_MODEL = "unknown_model"


@dataclass(slots=True, eq=False)
class UpstreamFailure(Exception):
    """One attempt that gave no answer. `retry_after_s` is the server's wish, `affordable_tokens` what credit allows.

    `reset_at` is when a limit is lifted, in seconds of the epoch; `providers` are those that the server blames.
    """

    cause: Cause
    message: str
    status: int | None = None
    retry_after_s: float | None = None
    affordable_tokens: int | None = None
    reset_at: float | None = None
    providers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.message = storable(self.message)


_OUTCOMES: dict[Cause, tuple[type[GreenroomError], str]] = {
    Cause.UNREACHED: (ModelUnavailable, "the model server cannot be reached"),
    Cause.AMBIGUOUS: (ModelUnavailable, "the model server broke off"),
    Cause.BUSY: (ModelUnavailable, "the model server has no room now"),
    Cause.BROKEN: (ModelUnavailable, "the model server failed"),
    Cause.GARBLED: (ModelProtocolError, "the model server sent no valid answer"),
    Cause.CREDIT: (ModelRefused, "the account at the model server has too little credit"),
    Cause.QUOTA: (ModelRefused, "a quota at the model server is used up"),
    Cause.CREDENTIAL: (ModelRefused, "the model server does not accept the API key"),
    Cause.REFUSED: (ModelRefused, "the model server refused the request"),
    Cause.UNKNOWN_MODEL: (UnknownModel, "the model server does not know this model"),
}


def as_error(
    failure: UpstreamFailure, *, partial: str, generation_id: str | None, yielded: bool = False
) -> GreenroomError:
    """Our error for the last failure. `partial` is text that was already yielded, `yielded` whether anything was."""
    error, summary = _OUTCOMES[failure.cause]
    details: dict[str, Any] = {"cause": failure.cause.value}
    if failure.status is not None:
        details["status"] = failure.status
    if failure.retry_after_s is not None:
        details["retry_after_s"] = failure.retry_after_s
    if partial:
        details["partial"] = mended(partial)
    if generation_id:
        details["generation_id"] = generation_id
    if not yielded and failure.cause in _NEVER_BILLED:
        details["free"] = True
    return error(f"{summary}: {failure.message}", **details)


def as_refusal(refused: BreakerOpen) -> ModelUnavailable:
    """Our error for a call that a breaker did not let through: nothing was sent."""
    scope, name = refused.key
    return ModelUnavailable(
        f"{scope} {name} of the model server failed too often, and is left alone for {refused.retry_after_s:.0f} s",
        cause="breaker_open",
        breaker=f"{scope}:{name}",
        retry_after_s=round(refused.retry_after_s, 3),
        not_sent=True,
        free=True,
    )


_NEVER_BILLED = frozenset(
    {
        Cause.UNREACHED,
        Cause.BUSY,
        Cause.CREDIT,
        Cause.QUOTA,
        Cause.CREDENTIAL,
        Cause.REFUSED,
        Cause.UNKNOWN_MODEL,
    }
)


def retried(failure: UpstreamFailure, generation_id: str | None) -> Retrying:
    """What is known of an attempt that failed before another one is made."""
    error, _ = _OUTCOMES[failure.cause]
    return Retrying(error.code, failure.cause in _NEVER_BILLED, generation_id)


def of_transport(error: httpx.HTTPError | httpx.InvalidURL) -> UpstreamFailure:
    """A connection that could not be made, or that broke."""
    if isinstance(error, httpx.DecodingError):
        cause = Cause.GARBLED
    else:
        cause = Cause.UNREACHED if isinstance(error, _NEVER_SENT) else Cause.AMBIGUOUS
    return UpstreamFailure(cause, str(error) or type(error).__name__)


def of_response(status: int, headers: Mapping[str, str], body: dict[str, Any] | None, now: datetime) -> UpstreamFailure:
    """An answer with an error status, whose body may be an error object, something else or nothing."""
    if 300 <= status < 400:
        return UpstreamFailure(
            Cause.REFUSED, f"it redirects to {headers.get('location', '?')}; set that as base URL", status
        )
    failure = of_error(body or {}, status=status)
    if failure.retry_after_s is None:
        failure.retry_after_s = _retry_after(headers, now)
    failure.reset_at = _reset_at(headers) or failure.reset_at
    wait_for_reset(failure, now)
    return failure


def wait_for_reset(failure: UpstreamFailure, now: datetime) -> None:
    """A server that said no time to wait may have said until when."""
    if failure.retry_after_s is None and failure.reset_at is not None:
        failure.retry_after_s = max(0.0, failure.reset_at - now.timestamp())


def of_error(body: dict[str, Any], *, status: int | None = None) -> UpstreamFailure:
    """An error object: the body of a failed request, or a chunk of a stream whose status was 200."""
    error = _error_of(body)
    code = error.get("code")
    status = status or _status(code) or _status(error.get("http_status"))
    metadata = as_object(error.get("metadata"))
    availability = as_object(error.get("availability"))
    message = as_text(error.get("message")) or as_text(body.get("detail")) or f"status {status or 'unknown'}"
    kinds = {
        as_text(code),
        as_text(error.get("type")),
        as_text(error.get("error_type")),
        as_text(metadata.get("error_type")),
    }
    failure = UpstreamFailure(
        _cause(status, message, kinds, as_text(metadata.get("limit_source")), availability),
        message[:_MESSAGE_CHARS],
        status,
        retry_after_s=as_seconds(availability.get("retry_after")),
        reset_at=_reset_at(as_object(metadata.get("headers"))),
        providers=_blamed(metadata),
    )
    affordable = _AFFORDABLE.search(message)
    if failure.cause is Cause.CREDIT and affordable:
        failure.affordable_tokens = int(affordable[1])
    return failure


def _error_of(body: dict[str, Any]) -> dict[str, Any]:
    error = body.get("error")
    if isinstance(error, str):  # Ollama
        return {"message": error}
    return as_object(error) or (body if as_text(body.get("message")) else {})


def _status(code: Any) -> int | None:
    """Some servers write the status as text, some put words there."""
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else None


_CAUSES = {
    401: Cause.CREDENTIAL,
    402: Cause.CREDIT,
    408: Cause.AMBIGUOUS,
    429: Cause.BUSY,
    503: Cause.BUSY,
    524: Cause.AMBIGUOUS,
    529: Cause.BUSY,
}
_CAUSES_BY_KIND = {
    "rate_limit_exceeded": Cause.BUSY,
    "overloaded_error": Cause.BUSY,
    "authentication": Cause.CREDENTIAL,
    "payment_required": Cause.CREDIT,
    "invalid_request_error": Cause.REFUSED,
    "context_length_exceeded": Cause.REFUSED,
}


def _cause(status: int | None, message: str, kinds: set[str], limit_source: str, availability: dict[str, Any]) -> Cause:
    if status in (400, 404) and (kinds & _UNKNOWN_MODEL_CODES or _NO_SUCH_MODEL.search(message)):
        return Cause.UNKNOWN_MODEL
    if status == 429 and ("daily" in limit_source or "per-day" in message):
        return Cause.QUOTA
    if status == 429 and "insufficient_quota" in kinds:
        return Cause.CREDIT
    if status == 404 and availability.get("retryable") is True:
        return Cause.BUSY
    if status is None:
        return next((_CAUSES_BY_KIND[kind] for kind in sorted(kinds) if kind in _CAUSES_BY_KIND), Cause.BROKEN)
    return _CAUSES.get(status) or (Cause.BROKEN if status >= 500 else Cause.REFUSED)


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = as_seconds(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError):
        return None


def _reset_at(headers: Mapping[str, Any]) -> float | None:
    """`X-RateLimit-Reset` in seconds of the epoch. OpenRouter sends milliseconds of it, as text."""
    lowered = {name.lower(): value for name, value in headers.items()}
    reset = as_seconds(lowered.get("x-ratelimit-reset"))
    if reset is None or reset < _A_MOMENT_S:
        return None
    return reset / 1000 if reset >= 1000 * _A_MOMENT_S else reset


def _blamed(metadata: dict[str, Any]) -> tuple[str, ...]:
    named = [as_text(metadata.get("provider_name"))]
    named += [as_text(as_object(error).get("provider")) for error in as_list(metadata.get("previous_errors"))]
    return tuple(dict.fromkeys(name for name in named if name))
