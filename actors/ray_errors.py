"""Ray's errors, and what becomes of them. Nowhere else do they turn into ours."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from .core.errors import GreenroomError
from .register import HeadAway, NotRegistered
from .sandbox.base import WorkspaceError

UNMET = (NotRegistered, HeadAway)
"""No handle could be had."""


class ActorGone(Exception):
    """The process of an actor is gone or not reached. Callers of a proxy get an error of ours instead."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@asynccontextmanager
async def translated(lost: "type[GreenroomError | ActorGone]") -> AsyncGenerator[None]:
    """Ray's errors to ours: an error of the called method to itself, a lost actor to `lost`."""
    try:
        yield
    except RayTaskError as error:
        cause = cast("BaseException", error.cause)  # pyright: ignore[reportUnknownMemberType]
        if isinstance(cause, GreenroomError | WorkspaceError):
            raise cause from None
        raise lost(f"{type(cause).__name__}: {cause}") from error
    except (RayActorError, GetTimeoutError) as error:
        raise lost((str(error).splitlines() or [type(error).__name__])[0]) from error
    except RayError as error:
        raise lost(f"{type(error).__name__}: {error}") from error
