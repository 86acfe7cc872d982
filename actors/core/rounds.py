"""Work that is done again and again beside the rest: one bad round must not end it."""

from collections.abc import Awaitable, Callable

import structlog

from .errors import UnavailableError

_logger = structlog.get_logger("greenroom.rounds")


async def repeat(round_: Callable[[], Awaitable[object]], rest: Callable[[], Awaitable[object]], *, name: str) -> None:
    """Do a round, rest, and so on until cancelled. Whatever a round raises is logged; what `rest` raises ends it."""
    while True:
        try:
            await round_()
        except UnavailableError as error:
            _logger.warning("round failed", round=name, reason=error.message)
        except Exception:  # whatever it is, the next round may do better, and without rounds things rot unseen
            _logger.exception("round failed", round=name)
        await rest()
