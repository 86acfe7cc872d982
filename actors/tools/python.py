"""The tool `run_python`: a program in the session's sandbox."""

from typing import Annotated

from ..sandbox.base import Limits
from .base import Tool, ToolContext, ToolResult, tool
from .execution import limits_text, sandbox_border, told


def python_tool(limits: Limits) -> Tool:
    """`limits` are those of the sandboxes; the model is told of them.

    A fresh interpreter is the default: the same program then gives the same answer whatever ran before it, and what
    hangs or crashes takes nothing along. State is for whoever asks for it.
    """

    async def run_python(
        context: ToolContext,
        code: Annotated[str, "The program's source. Print what you want to see."],
        keep: Annotated[
            bool,
            "Run it in an interpreter that lasts, where variables stay for the next call that sets `keep`. They are "
            "gone when it exits or is stopped.",
        ] = False,
    ) -> ToolResult:
        timeout_s = min(context.timeout_s, limits.command_s)
        with sandbox_border():
            result = await context.sandboxes.python(
                context.session_id, code, timeout_s=timeout_s, on_output=context.on_output, keep=keep
            )
        return told(result, timeout_s=timeout_s, limits=limits)

    run_python.__doc__ = (
        "Run a Python program in this session's sandbox and get what it printed (stdout and stderr together). "
        "Every call is a fresh interpreter, unless you set `keep`. It starts in the workspace folder, where files "
        "stay from call to call while the session is active. There is no network, so nothing can be downloaded or "
        "installed; the standard library is there. Standard input is empty. "
        f"Limits: {limits_text(limits)}."
    )
    return tool(run_python, meter="sandbox")
