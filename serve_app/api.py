"""The HTTP application over its services. Needs no Ray: tests run it in one process."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from actors.wiring.limits import sandbox_limits

from . import problems
from .auth import KeyGate
from .middleware import JSON_OVERHEAD, Border
from .routes import (
    approvals,
    chat,
    commands,
    costs,
    events,
    files,
    fork,
    health,
    inbox,
    models,
    orders,
    page,
    sessions,
    turns,
)
from .services import Services

PROBLEM_SCHEMA = "#/components/schemas/Problem"

DESCRIPTION = """\
Every session is a stateful actor that holds its memory and its cost. Say something with `POST /api/v1/chat`.

Every POST may carry an `Idempotency-Key`. Where a request makes something (a message, a session, a fork) the same key
and body again make nothing new: a turn that runs is waited for or followed, one that has ended is answered as it was,
with `Idempotency-Replayed: true`. The same key with another body is 422 `idempotency_key_reused`. A request that was
refused did not use its key up. Keys belong to the user and the route, and are known for as long as what they made is in
the journal. Other POSTs may be repeated by their nature, with a key or without; but `…/exec` may not, and refuses keys.

Errors are problem documents (RFC 9457) whose `code` is stable. Money is whole micro-dollars, times are RFC 3339 in UTC.
Sign in with the button *Authorize*: the key is in the file `admin.key` of the home folder.
"""


def create_api(services: Services) -> FastAPI:
    """The application. Every route is listed here."""
    app = FastAPIOffline(
        title="Greenroom",
        version=services.version,
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_parameters={"persistAuthorization": True},
    )
    app.state.services = services
    for module in (
        chat,
        sessions,
        inbox,
        orders,
        fork,
        events,
        turns,
        approvals,
        commands,
        files,
        models,
        costs,
        health,
    ):
        app.include_router(module.router)
    page.mount(app)
    problems.install(app)
    # The one that is added last is the outermost.
    app.add_middleware(KeyGate, keys=services.keys)
    app.add_middleware(
        Border,
        clock=services.clock,
        new_id=services.new_id,
        max_body_bytes=services.settings.message_max_bytes * JSON_OVERHEAD,
        max_file_bytes=sandbox_limits(services.settings).file_bytes,
    )
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Errors are problem documents in the OpenAPI document too; FastAPI would describe them as plain JSON."""
    plain: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for operations in document["paths"].values():
                for operation in operations.values():
                    for status, response in operation["responses"].items():
                        content = response.get("content", {})
                        if status >= "400" and PROBLEM_SCHEMA in str(content.get("application/json")):
                            content["application/problem+json"] = content.pop("application/json")
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi
