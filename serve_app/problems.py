"""Errors on the wire: RFC 9457 problem documents, with the status of every code in one table."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from actors.core.errors import AccountSuspended, BudgetExceeded, GreenroomError, InputError
from actors.core.text import mended_json

STATUS: dict[str, int] = {
    "internal": 500,
    "invalid_input": 422,
    "unknown_model": 422,
    "message_too_large": 413,
    "cursor_expired": 410,
    "idempotency_key_reused": 422,
    "invalid_path": 400,
    "file_too_large": 413,
    "range_not_satisfiable": 416,
    "forbidden": 403,
    "policy_refused": 403,
    "account_suspended": 403,
    "unauthenticated": 401,
    "not_found": 404,
    "session_not_found": 404,
    "turn_not_found": 404,
    "message_not_found": 404,
    "approval_not_found": 404,
    "file_not_found": 404,
    "conflict": 409,
    "fenced": 503,
    "not_here": 503,
    "session_exists": 409,
    "session_busy": 409,
    "message_not_waiting": 409,
    "approval_not_pending": 409,
    "workspace_conflict": 409,
    "hold_conflict": 409,
    "limit_reached": 429,
    "turn_limit": 422,
    "budget_exceeded": 402,
    "inbox_full": 429,
    "at_capacity": 503,
    "unavailable": 503,
    "model_unavailable": 503,
    "model_protocol_error": 502,
    "model_refused": 502,
    "sandbox_unavailable": 503,
    "sandbox_lost": 503,
    "memory_unavailable": 503,
    "store_unavailable": 503,
    "ledger_unavailable": 503,
    "session_lost": 503,
    "draining": 503,
    "recovery_limit": 500,
    # Codes of HTTP itself, which no class of ours has.
    "malformed": 400,
    "method_not_allowed": 405,
}

RETRY_AFTER_S = 1

_NOT_BEFORE_SOMEBODY_ACTS = frozenset({"budget_exceeded", "account_suspended"})
"""Codes whose requests some clients send again by their status alone: they are told not to."""


class BodyTooLarge(Exception):
    """The body of a request grew past the limit while it was read."""


_TYPE = "urn:greenroom:problem:"
_IDS = frozenset({"session_id", "turn_id", "message_id", "approval_id"})
_OF_STATUS = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "message_too_large"}


def problem(
    request_id: str,
    instance: str,
    *,
    code: str,
    detail: str,
    retryable: bool = False,
    errors: list[dict[str, Any]] | None = None,
    members: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document. A code that is not in the table is answered as 500, and a test forbids it."""
    status = STATUS.get(code, 500)
    body = {
        **(members or {}),
        "type": f"{_TYPE}{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "request_id": request_id,
        "retryable": retryable,
        "errors": errors or [],
    }
    sent = dict(headers or {})
    if retryable:
        sent["Retry-After"] = str(RETRY_AFTER_S)
    if code in _NOT_BEFORE_SOMEBODY_ACTS:
        sent["X-Should-Retry"] = "false"
    if status == STATUS["unauthenticated"]:
        sent["WWW-Authenticate"] = "Bearer"
    return Response(to_json(mended_json(body)), status, sent, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(GreenroomError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def _respond(request: Request, **members: Any) -> Response:
    return problem(request.scope.get("request_id", ""), request.url.path, **members)


def told_of(error: GreenroomError) -> dict[str, Any]:
    """Details that clients get: all of an error about the input, and of a budget that is the user's own.

    Of others ids alone, as more may name our insides.
    """
    if isinstance(error, InputError | BudgetExceeded | AccountSuspended):
        return error.details
    return {name: value for name, value in error.details.items() if name in _IDS}


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, GreenroomError)
    return _respond(request, code=error.code, detail=error.message, retryable=error.retryable, members=told_of(error))


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [{"field": _field(e["loc"]), "message": e["msg"].removeprefix("Value error, ")} for e in error.errors()]
    malformed = any(e["type"] == "json_invalid" for e in error.errors())
    if any(e["type"] == "model_attributes_type" for e in error.errors()) and not _says_json(request):
        errors = [{"field": "", "message": "send the body as JSON, with Content-Type: application/json"}]
    detail = "; ".join(f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors)
    return _respond(request, code="malformed" if malformed else "invalid_input", detail=detail, errors=errors)


def _says_json(request: Request) -> bool:
    return "json" in request.headers.get("content-type", "")


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part not in {"body", "query", "path", "header"})


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _OF_STATUS.get(error.status_code, "internal")
    if isinstance(error.__cause__, UnicodeEncodeError):
        code = "invalid_input"  # a lone surrogate in a name: JSON can say it, text it is not
    if isinstance(error.__cause__, BodyTooLarge):
        code = "message_too_large"
    return _respond(request, code=code, detail=str(error.detail), headers=error.headers)
