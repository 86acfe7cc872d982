"""Who calls: the bearer key of a request, checked, as a FastAPI dependency."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from actors.core.errors import Forbidden, Unauthenticated
from actors.security.keys import ADMIN, Principal

from .services import Services

_bearer = HTTPBearer(auto_error=False, description="An API key: `grk_…`. `greenroom up` prints the first one's file.")


def services_of(request: Request) -> Services:
    return cast("Services", request.app.state.services)


Wired: TypeAlias = Annotated[Services, Depends(services_of)]


async def _principal(
    services: Wired, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal:
    if credentials is None:
        raise Unauthenticated
    return await services.keys.check(credentials.credentials)


def _scoped(scope: str) -> Callable[[Principal], Awaitable[Principal]]:
    async def check(principal: Annotated[Principal, Depends(_principal)]) -> Principal:
        if not principal.scopes & {scope, ADMIN}:
            raise Forbidden(f"the API key needs the scope {scope}")
        return principal

    return check


def _needs(scope: str) -> Any:
    return Depends(_scoped(scope))


Chatter: TypeAlias = Annotated[Principal, _needs("chat")]
Reader: TypeAlias = Annotated[Principal, _needs("sessions:read")]
Writer: TypeAlias = Annotated[Principal, _needs("sessions:write")]
