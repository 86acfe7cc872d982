"""Text that can be stored and sent: Unicode without lone surrogates, JSON that is not nested without end."""

from typing import Any, cast

MAX_JSON_DEPTH = 64
"""Parsers give up at some depth, each at its own; this is below all of them."""


def mended(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD, and halves of a pair joined.

    Servers that cut a character in two send such text, and Python holds it; UTF-8 cannot.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def storable(text: str) -> str:
    """The text mended, and U+FFFD for each NUL: PostgreSQL's columns take none."""
    return mended(text).replace("\0", "\ufffd")


def has_lone_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def mended_json(value: Any, *, depth: int = MAX_JSON_DEPTH) -> Any:
    """JSON-like data, mended: null for what is nested deeper than `depth`, its repr for what is no JSON."""
    if isinstance(value, str):
        return mended(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return None
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return {mended(str(k)): mended_json(v, depth=depth - 1) for k, v in members.items()}
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return [mended_json(item, depth=depth - 1) for item in items]
    return mended(repr(value))


def depth_of(value: Any) -> int:
    """How deeply JSON-like data is nested: 0 for a number or a text. Works at any depth."""
    deepest = 0
    level = _inside(value)
    while level:
        deepest += 1
        level = [inner for outer in level for inner in _inside(outer)]
    return deepest


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(cast("dict[Any, Any]", value).values()) or [None]
    return (cast("list[Any]", value) or [None]) if isinstance(value, list) else []
