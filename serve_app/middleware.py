"""What happens to every request: an id, a size limit, security headers, metrics. Plain ASGI, for its price."""

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.core import telemetry
from actors.core.clock import Clock
from actors.core.ids import NewId

from .problems import problem

# Scripts, styles and connections of this origin only; /docs is Swagger UI, which writes inline.
_CSP = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_CSP_DOCS = _CSP + "; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
_DOCS = ("/docs", "/redoc")

_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

JSON_OVERHEAD = 8
"""A character of a message may take so many bytes of JSON; beyond that a body cannot be a valid message."""


class _TooLarge(Exception):
    """The body grew past the limit while it was read."""


class Border:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, clock: Clock, new_id: NewId, max_body_bytes: int) -> None:
        self._app = app
        self._clock = clock
        self._new_id = new_id
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._clock.monotonic()
        request_id = scope["request_id"] = self._new_id("req")
        status = 500
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun = True
                status = message["status"]
                _add_headers(MutableHeaders(scope=message), request_id, scope["path"])
            await send(message)

        try:
            if int(Headers(scope=scope).get("content-length") or 0) > self._max_body_bytes:
                raise _TooLarge
            await self._app(scope, self._limited(receive), send_with_headers)
        except _TooLarge:
            if begun:
                raise
            detail = f"the body is larger than {self._max_body_bytes:,} bytes"
            refusal = problem(request_id, scope["path"], code="message_too_large", detail=detail)
            await refusal(scope, receive, send_with_headers)
        except Exception:  # the ASGI border: the server logs it, the client gets a document and no traceback
            if not begun:
                failure = problem(request_id, scope["path"], code="internal", detail="an internal error; see the log")
                await failure(scope, receive, send_with_headers)
            raise
        finally:
            self._count(scope, status, self._clock.monotonic() - started)

    def _limited(self, receive: Receive) -> Receive:
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise _TooLarge
            return message

        return limited

    def _count(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        # The route's template and not the path: ids would make a series each.
        route: Any = scope.get("route")
        name = getattr(route, "path", "other")
        telemetry.REQUESTS.labels(name, scope["method"], str(status)).inc()
        telemetry.REQUEST_SECONDS.labels(scope["method"], str(status)).observe(seconds)


def _add_headers(headers: MutableHeaders, request_id: str, path: str) -> None:
    headers["X-Request-Id"] = request_id
    headers["Content-Security-Policy"] = _CSP_DOCS if path.startswith(_DOCS) else _CSP
    for name, value in _SECURITY.items():
        headers[name] = value
    if "cache-control" not in headers:
        headers["Cache-Control"] = "no-cache" if path.startswith("/ui") else "no-store"
