"""Tool calls put together from the fragments in which they are streamed."""

import json
from dataclasses import dataclass, field
from typing import Any

from ..core.messages import ToolCall
from .json_values import as_object, as_text, parse_object


class IncompleteToolCall(Exception):
    """A call without a name, or whose arguments are not a JSON object."""


@dataclass(slots=True)
class _OpenCall:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


class ToolCallAssembler:
    """Fragments in, whole calls out, in the order in which they began.

    Servers disagree on how fragments name their call, so: an id that was seen before decides, whatever
    the index; a new id on a used index begins a new call; a fragment with an index and no id belongs to
    the latest call of that index; one with neither belongs to the call that is open, unless it brings a
    name while that call has one.
    """

    def __init__(self) -> None:
        self._calls: list[_OpenCall] = []
        self._by_id: dict[str, _OpenCall] = {}
        self._by_index: dict[int, _OpenCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, fragment: dict[str, Any]) -> None:
        function = as_object(fragment.get("function"))
        name = as_text(function.get("name"))
        index = fragment.get("index")
        call = self._call_of(as_text(fragment.get("id")), index if isinstance(index, int) else None, name)
        call.name = call.name or name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif isinstance(arguments, dict):  # some servers send the object itself
            call.arguments.append(json.dumps(arguments, ensure_ascii=False, default=float))

    def finish(self) -> tuple[ToolCall, ...]:
        """The calls. A missing id becomes `call_1`, `call_2`, …; empty arguments become `{}`.

        Raises `IncompleteToolCall`.
        """
        calls: list[ToolCall] = []
        for number, call in enumerate(self._calls, start=1):
            arguments = "".join(call.arguments)
            if not arguments.strip():
                arguments = "{}"
            if not call.name:
                raise IncompleteToolCall("a tool call without a name")
            if parse_object(arguments) is None:
                raise IncompleteToolCall(f"a call of {call.name} whose arguments are not a JSON object")
            calls.append(ToolCall(call.id or f"call_{number}", call.name, arguments))
        return tuple(calls)

    def _call_of(self, id: str, index: int | None, name: str) -> _OpenCall:
        if id and id in self._by_id:
            call = self._by_id[id]
        elif id:
            at_index = self._by_index.get(index) if index is not None else None
            call = at_index if at_index is not None and not at_index.id else self._begin()
            call.id = id
            self._by_id[id] = call
        elif index is not None:
            call = self._by_index.get(index) or self._begin()
        else:
            latest = self._calls[-1] if self._calls else None
            call = latest if latest is not None and not (name and latest.name) else self._begin()
        if index is not None:
            self._by_index[index] = call
        return call

    def _begin(self) -> _OpenCall:
        call = _OpenCall()
        self._calls.append(call)
        return call
