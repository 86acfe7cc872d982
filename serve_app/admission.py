"""What is checked of a request before a session hears of it, beyond the form of its body."""

import asyncio
from collections.abc import Sequence

from actors.core.errors import InvalidInput, MessageTooLarge, UnavailableError, UnknownModel

from .services import Services

_MODELS_S = 2.0
"""Time for the list of models when a request names one; accepting it does not wait longer."""


def check_size(services: Services, message: str) -> None:
    """Raises `MessageTooLarge`."""
    size, limit = len(message.encode()), services.settings.message_max_bytes
    if size > limit:
        raise MessageTooLarge(f"the message has {size:,} bytes; at most {limit:,} are taken", limit_bytes=limit)


async def check_model(services: Services, model: str | None) -> None:
    """Raises `UnknownModel` when the list of models is known and this one is not in it."""
    if model is None:
        return
    try:
        async with asyncio.timeout(_MODELS_S):
            known = {info.id for info in await services.llm.models()}
    except (UnavailableError, TimeoutError):
        return  # the turn itself will say what the model server says
    if known and model not in known:
        raise UnknownModel(f"there is no model {model!r}; GET /api/v1/models lists them", model=model)


def check_tools(services: Services, names: Sequence[str]) -> None:
    """Raises `InvalidInput` when the names of the tools are known and one of these is not among them."""
    unknown = [name for name in names if name not in services.tools]
    if services.tools and unknown:
        raise InvalidInput(f"there is no tool {unknown[0]!r}; there are: {', '.join(services.tools)}")
