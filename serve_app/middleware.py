"""What happens to every request: an id, a size limit, security headers, metrics. Plain ASGI, for its price."""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.core import telemetry
from actors.core.clock import Clock
from actors.core.ids import NewId

from .paths import route_path
from .problems import BodyTooLarge, problem
from .sse import EVENT_STREAM

# Scripts, styles and connections of this origin only; /docs is Swagger UI, which writes inline.
_CSP = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_CSP_DOCS = _CSP + "; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
_DOCS = "/docs"

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NUMBER = re.compile(r"[0-9]{1,18}")
_FILE = re.compile(r"/api/v1/sessions/[^/]+/files/.*", re.DOTALL)
"""What is put there is a file as it is, and no JSON."""

JSON_OVERHEAD = 8
"""A character of a message may take so many bytes of JSON; beyond that a body cannot be a valid message."""


class Border:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, clock: Clock, new_id: NewId, max_body_bytes: int, max_file_bytes: int) -> None:
        self._app = app
        self._clock = clock
        self._new_id = new_id
        self._max_body_bytes = max_body_bytes
        self._max_file_bytes = max_file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = self._new_id("req")
        answer = _Answer(self._clock.monotonic())

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                answer.status = message["status"]
                answer.streamed = headers.get("content-type", "").startswith(EVENT_STREAM)
                _add_headers(headers, request_id, route_path(scope))
            elif head:
                message = {**message, "body": b""}
            await send(message)

        # A probe that asks for the headers only gets those of GET. Not under /api, where streams never end.
        head = scope["method"] == "HEAD" and not route_path(scope).startswith("/api/")
        inner = {**scope, "method": "GET"} if head else scope
        try:
            await self._answer(inner, receive, send_with_headers, answer)
        finally:
            self._count(inner, scope["method"], answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, answer: "_Answer") -> None:
        request_id, path = scope["request_id"], scope["path"]
        refusal: Response | None = None
        limit, too_large = self._limit(scope)
        try:
            length = Headers(scope=scope).get("content-length")
            if length is not None and not _NUMBER.fullmatch(length):
                refusal = problem(request_id, path, code="malformed", detail="Content-Length is no number")
            elif int(length or 0) > limit:
                raise BodyTooLarge
            else:
                await self._app(scope, _limited(receive, limit), send)
        except BodyTooLarge:
            if answer.status is not None:
                raise
            detail = f"the body is larger than {limit:,} bytes"
            refusal = problem(request_id, path, code=too_large, detail=detail)
        except Exception:  # the ASGI border: the server logs it, the client gets a document and no traceback
            if answer.status is None:
                failure = problem(request_id, path, code="internal", detail="an internal error; the log says more")
                await failure(scope, receive, send)
            raise
        if refusal is not None:
            await refusal(scope, receive, send)

    def _limit(self, scope: Scope) -> tuple[int, str]:
        """Bytes that a body may have, and the code of the refusal of one that has more."""
        if scope["method"] == "PUT" and _FILE.fullmatch(route_path(scope)):
            return self._max_file_bytes, "file_too_large"
        return self._max_body_bytes, "message_too_large"

    def _count(self, scope: MutableMapping[str, Any], method: str, answer: "_Answer") -> None:
        # The route's template and not the path, known methods only: strangers must not make series.
        route: Any = scope.get("route")
        name = getattr(route, "path", "other")
        method = method if method in _METHODS else "other"
        status = str(answer.status or 500)
        telemetry.REQUESTS.labels(name, method, status).inc()
        if not answer.streamed:
            telemetry.REQUEST_SECONDS.labels(method, status).observe(self._clock.monotonic() - answer.started)


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise BodyTooLarge
        return message

    return limited


@dataclass(slots=True)
class _Answer:
    """What is known of an answer while it is sent."""

    started: float
    status: int | None = None
    streamed: bool = False


def _add_headers(headers: MutableHeaders, request_id: str, path: str) -> None:
    # Not X-Request-Id: Serve sends an id of its own by that name.
    headers["Request-Id"] = request_id
    headers["Content-Security-Policy"] = _CSP_DOCS if path == _DOCS else _CSP
    for name, value in _SECURITY.items():
        headers[name] = value
    if "cache-control" not in headers:
        headers["Cache-Control"] = "no-cache" if path.startswith("/ui") else "no-store"
