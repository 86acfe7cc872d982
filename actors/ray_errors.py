"""Ray's errors, and what becomes of them. Nowhere else do they turn into ours."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import structlog
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
    """Ray's errors to ours: an error of the called method to itself, a lost actor to `lost`.

    An error of the method that is none of ours is a fault of the program in this one request. It becomes a plain
    `GreenroomError` and is logged: its process lives, and its words may hold what is stored.
    """
    try:
        yield
    except RayTaskError as error:
        cause = cast("BaseException", error.cause)  # pyright: ignore[reportUnknownMemberType]
        if isinstance(cause, GreenroomError | WorkspaceError):
            raise cause from None
        if not isinstance(cause, Exception):  # the method was cut off, as when its process ends
            raise lost(type(cause).__name__) from error
        method, trace = cast("tuple[str, str]", (error.function_name, error.traceback_str))  # pyright: ignore[reportUnknownMemberType]
        structlog.get_logger("greenroom.calls").error("call failed", method=method, traceback=trace)
        raise GreenroomError from None
    except (RayActorError, GetTimeoutError) as error:
        raise lost((str(error).splitlines() or [type(error).__name__])[0]) from error
    except RayError as error:
        raise lost(f"{type(error).__name__}: {error}") from error
