"""Reading JSON that others wrote: each function gives the wanted type or its empty value, and never raises."""

import json
from decimal import Decimal
from typing import Any, cast

from ..core.text import storable

# One decoder for all: `json.loads(…, parse_float=…)` builds one per call, which costs as much as the parsing.
_DECODER = json.JSONDecoder(parse_float=Decimal)


def parse_object(data: bytes | str) -> dict[str, Any] | None:
    """The JSON object in `data`, with fractions as `Decimal`; None when it is anything else."""
    try:
        value = _DECODER.decode(data if isinstance(data, str) else data.decode())
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """A whole text, fit to be stored: servers cut messages in the middle of a character."""
    return storable(as_piece(value))


def as_piece(value: Any) -> str:
    """A piece of a text, as it came: the next piece may begin with the other half of its last character."""
    return value if isinstance(value, str) else ""


def as_count(value: Any) -> int:
    """A whole number from 0 on; anything else counts as 0."""
    if isinstance(value, Decimal) and value.is_finite() and abs(value) < Decimal("1e18"):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def as_seconds(value: Any) -> float | None:
    """A time to wait, given as a number or as text; None when it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
