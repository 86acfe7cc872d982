"""The tools that a model may call, in one place: `default_tools` lists them, `Toolbox` runs them."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import structlog

from ..core.clock import Clock
from ..core.errors import GreenroomError
from ..core.messages import ToolCall, ToolSpec
from ..sandbox.base import Limits
from .base import Meter, Tool, ToolContext, ToolResult
from .files import file_tools
from .memory import memory_tools
from .python import python_tool
from .shell import shell_tool

log = structlog.stdlib.get_logger(__name__)

MIN_CHARS = 100
# Room that a slice of a file leaves for the line that says how to go on.
HINT_CHARS = 100
# Tools keep their own deadlines; a tool that does not is stopped this much after the turn's.
GRACE_S = 5.0


def default_tools(clock: Clock, limits: Limits, *, max_chars: int) -> tuple[Tool, ...]:
    """Every built-in tool. `max_chars` is the toolbox's: a slice of a file is made to fit in."""
    slice_bytes = max(max_chars - HINT_CHARS, max_chars // 4)
    return (
        python_tool(limits),
        shell_tool(limits),
        *file_tools(slice_bytes=slice_bytes),
        *memory_tools(clock),
    )


class Toolbox:
    """Tools by name, in the order in which the model is told of them.

    A toolbox answers every call with a result of at most `max_chars` characters. Raises ValueError when
    two tools have one name.
    """

    def __init__(self, tools: Iterable[Tool], *, max_chars: int) -> None:
        if max_chars < MIN_CHARS:
            raise ValueError(f"max_chars must be at least {MIN_CHARS}, not {max_chars}")
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if self._tools.setdefault(tool.spec.name, tool) is not tool:
                raise ValueError(f"two tools are called {tool.spec.name}")
        self._max_chars = max_chars

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(tool.spec for tool in self._tools.values())

    def fit(self, text: str) -> str:
        """`text` in as many characters as a result may have."""
        return cut(text, self._max_chars)[0]

    def needs_approval(self, name: str) -> bool:
        """The tool was made so that a person is asked before each call."""
        return name in self._tools and self._tools[name].needs_approval

    def meter(self, name: str) -> Meter | None:
        """What the tool is paid by; None where there is no such tool."""
        return self._tools[name].meter if name in self._tools else None

    async def run(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run the call. Whatever goes wrong is a result with `error`; only cancellation is raised."""
        tool = self._tools.get(call.name)
        if tool is None:
            names = ", ".join(self._tools) or "none"
            result = ToolResult(f"There is no tool {call.name!r}. There are: {names}.", error="unknown_tool")
        else:
            result = await _run(tool, call, context)
        return _fitted(result, self._max_chars)


async def _run(tool: Tool, call: ToolCall, context: ToolContext) -> ToolResult:
    deadline = asyncio.timeout(context.timeout_s + GRACE_S)
    try:
        async with deadline:
            return await tool.run(context, call.arguments)
    except GreenroomError as error:
        log.warning("tool.unavailable", tool=call.name, tool_call_id=call.id, code=error.code, reason=error.message)
        return ToolResult(error.message, error=error.code)
    except Exception as error:
        # A tool is the border: its bug is data for the model and must not end the turn.
        if deadline.expired():
            return ToolResult(
                f"Stopped: the tool did not answer within {context.timeout_s:g} s. It may have done part of its work.",
                error="timeout",
            )
        log.exception("tool.crashed", tool=call.name, tool_call_id=call.id)
        return ToolResult(f"The tool crashed: {type(error).__name__}: {error}", error="crashed")


def _fitted(result: ToolResult, max_chars: int) -> ToolResult:
    content, left_out = cut(result.content, max_chars)
    if not left_out:
        return result
    return replace(result, content=content, data={**result.data, "left_out_chars": left_out})


def cut(text: str, max_chars: int) -> tuple[str, int]:
    """`text` in at most `max_chars` (100 or more) characters, head and tail kept, and how many were left out."""
    if len(text) <= max_chars:
        return text, 0
    # The number in the marker is at most the whole length, so room for that many digits is enough.
    room = max_chars - len(_marker(len(text)))
    head = room * 2 // 3
    tail = room - head
    left_out = len(text) - room
    return f"{text[:head]}{_marker(left_out)}{text[len(text) - tail :]}", left_out


def _marker(count: int) -> str:
    return f"\n[… {count:,} characters left out …]\n"
