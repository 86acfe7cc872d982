"""A tool: a typed function whose signature is its JSON schema.

    async def shout(context: ToolContext, text: Annotated[str, "What to shout."]) -> ToolResult:
        '''Say it loudly.'''
        return ToolResult(text.upper())

    tool(shout)

The first parameter is the context; the rest becomes the schema, with the description from `Annotated`.
The docstring is what the model is told. A failure is data for the model: a `ToolResult` whose `error`
is a short kind. Raising `ToolFailed` makes the same; any other exception is caught by the loop and
becomes error `crashed`.
"""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, Literal, TypeAlias

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from ..core.messages import ToolSpec
from ..memory.base import MemoryStore
from ..sandbox.base import OnOutput, Sandboxes

OUTCOME_UNKNOWN = "outcome_unknown"
"""The `error` of a tool of which nobody knows what it did, because the process that ran it died."""


Meter: TypeAlias = Literal["call", "sandbox", "embedding"]
"""What a tool is paid by: the call alone, or also the time that it takes in a sandbox, or the text that it embeds."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may use, and for whom it runs. `timeout_s` is what is left of the turn's time."""

    session_id: str
    user_id: str
    turn_id: str
    tool_call_id: str
    sandboxes: Sandboxes
    memories: MemoryStore
    on_output: OnOutput
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`content` is for the model; `data` is for people and programs (exit code, duration, sizes)."""

    content: str
    error: str | None = None
    data: dict[str, Any] = field(default_factory=dict[str, Any])


class ToolFailed(Exception):
    """The tool cannot do it. `kind` is one word for programs, the message is for the model."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


ToolFunction: TypeAlias = Callable[Concatenate[ToolContext, ...], Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function, its schema, and the model that checks a call's arguments against it."""

    spec: ToolSpec
    function: ToolFunction
    arguments: type[BaseModel]
    needs_approval: bool = False
    """A person is asked before each call."""
    meter: Meter = "call"

    async def run(self, context: ToolContext, arguments_json: str) -> ToolResult:
        """Check the arguments and run. Wrong arguments are an error for the model, which can mend them."""
        try:
            arguments = self.arguments.model_validate_json(arguments_json or "{}")
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
            return ToolResult(f"The arguments are not valid: {problems}", error="invalid_arguments")
        try:
            return await self.function(
                context, **{name: getattr(arguments, name) for name in self.arguments.model_fields}
            )
        except ToolFailed as failure:
            return ToolResult(failure.message, error=failure.kind)


def tool(function: ToolFunction, *, needs_approval: bool = False, meter: Meter = "call") -> Tool:
    """Make a tool of a typed function. Raises TypeError where the signature cannot be a schema."""
    name = function.__name__
    description = inspect.getdoc(function)
    if not description:
        raise TypeError(f"tool {name} needs a docstring: it is what the model is told")
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function, eval_str=True).parameters.values())[1:]:
        if parameter.annotation is parameter.empty:
            raise TypeError(f"parameter {parameter.name} of tool {name} needs a type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (
            parameter.annotation,
            FieldInfo(default=default, description=_told(parameter.annotation)),
        )
    arguments = create_model(name, __config__={"extra": "forbid"}, **fields)
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    for member in schema.get("properties", {}).values():
        member.pop("title", None)
    return Tool(ToolSpec(name, description, schema), function, arguments, needs_approval, meter)


def _told(annotation: Any) -> str | None:
    """The description in `Annotated[type, "description"]`."""
    texts = [item for item in getattr(annotation, "__metadata__", ()) if isinstance(item, str)]
    return texts[0] if texts else None
