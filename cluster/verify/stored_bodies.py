"""Stored bodies back to events, also those that this version cannot know: newer types, newer values, damage."""

import json
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from actors.core.events import BODY, Body

from .evidence import Unrecognised


def read_body(type_name: str, payload: bytes) -> Body:
    """The body of an event; `Unrecognised` in its place where there is no class for it. Never raises."""
    try:
        return BODY.validate_json(payload)
    except ValidationError:
        body = _newer(type_name, payload)
    # Checks look at the class of a body, and leave alone what is none of theirs.
    return cast("Body", body)


def _newer(type_name: str, payload: bytes) -> Any:
    try:
        members = json.loads(payload)
    except ValueError as error:
        return Unrecognised(type_name, damage=f"its payload is no JSON ({error})")
    if not isinstance(members, dict):
        return Unrecognised(type_name, damage="its payload is no JSON object")
    given = cast("dict[str, Any]", members)
    given.pop("type", None)
    known = _classes().get(type_name)
    return Unrecognised(type_name, given) if known is None else _lenient(known, type_name, given)


def _lenient(cls: type[Any], type_name: str, given: dict[str, Any]) -> Any:
    """A body of a type that is known, with words in it that are not: those stay as they are."""
    adapters = _adapters(cls)
    values: dict[str, Any] = {}
    for field in fields(cls):
        if field.name in given and field.name != "type":
            try:
                values[field.name] = adapters[field.name].validate_python(given[field.name])
            except ValidationError:
                if not isinstance(given[field.name], str):
                    return Unrecognised(type_name, given, damage=f"its {field.name!r} is {given[field.name]!r:.80}")
                values[field.name] = given[field.name]
        elif field.default is MISSING and field.default_factory is MISSING:
            return Unrecognised(type_name, given, damage=f"it has no {field.name!r}")
    return cls(**values)


@cache
def _classes() -> dict[str, type[Any]]:
    """Bodies by the name of their type."""
    union = get_args(Body)[0]
    return {get_args(get_type_hints(cls)["type"])[0]: cls for cls in get_args(union)}


@cache
def _adapters(cls: type[Any]) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(cls, include_extras=True).items()}
