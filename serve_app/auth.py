"""Who calls: a gate that checks the bearer key before anything else, and dependencies that check its scope."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.core.errors import Forbidden, GreenroomError, Unauthenticated
from actors.ledger.payer import Payer
from actors.security.keys import ADMIN, ApiKeys, Principal

from .paths import route_path
from .problems import problem
from .services import Services

_bearer = HTTPBearer(auto_error=False, description="An API key: `grk_…`. `greenroom up` prints the first one's file.")


async def services_of(request: Request) -> Services:  # asynchronous, or FastAPI asks a thread for it
    return cast("Services", request.app.state.services)


Wired: TypeAlias = Annotated[Services, Depends(services_of)]


class KeyGate:
    """ASGI: under `/api/` nothing is read of a request without a valid key, not even whether it is well formed."""

    def __init__(self, app: ASGIApp, *, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and route_path(scope).startswith("/api/"):
            try:
                scope["principal"] = await self._keys.check(_bearer_key(Headers(scope=scope)))
            except GreenroomError as error:
                refusal = problem(
                    scope.get("request_id", ""),
                    scope["path"],
                    code=error.code,
                    detail=error.message,
                    retryable=error.retryable,
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _bearer_key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Unauthenticated
    return key.strip()


async def _principal(
    request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal:
    principal: Principal | None = request.scope.get("principal")
    if principal is None:  # a route that the gate does not guard: closed all the same
        raise Unauthenticated
    return principal


def _scoped(scope: str) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        if not principal.scopes & {scope, ADMIN}:
            raise Forbidden(f"the API key needs the scope {scope}")
        return principal

    return check


def _needs(scope: str) -> Any:
    return Depends(_scoped(scope))


def payer_of(principal: Principal, services: Services) -> Payer:
    """Who is charged with what the caller asks for, beside the user."""
    return Payer(principal.key_id, services.settings.budget_org)


Chatter: TypeAlias = Annotated[Principal, _needs("chat")]
Reader: TypeAlias = Annotated[Principal, _needs("sessions:read")]
Writer: TypeAlias = Annotated[Principal, _needs("sessions:write")]
Approver: TypeAlias = Annotated[Principal, _needs("approvals:resolve")]
