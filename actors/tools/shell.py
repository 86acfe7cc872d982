"""The tool `run_shell`: a command in the session's sandbox."""

from typing import Annotated

from ..sandbox.base import Limits
from .base import Tool, ToolContext, ToolResult, tool
from .execution import limits_text, sandbox_border, told


def shell_tool(limits: Limits) -> Tool:
    """`limits` are those of the sandboxes; the model is told of them."""

    async def run_shell(
        context: ToolContext,
        command: Annotated[str, "A command line for sh, e.g. `wc -l *.csv | sort -n`."],
    ) -> ToolResult:
        timeout_s = min(context.timeout_s, limits.command_s)
        with sandbox_border():
            result = await context.sandboxes.shell(
                context.session_id, command, timeout_s=timeout_s, on_output=context.on_output
            )
        return told(result, timeout_s=timeout_s, limits=limits)

    run_shell.__doc__ = (
        "Run a command with `sh -c` in this session's sandbox and get its output (stdout and stderr together). "
        "Every call starts in the workspace folder with a fresh environment; files there stay from call to call "
        "while the session is active, processes do not. There is no network and no root. A policy decides "
        "which programs may run; a refusal says why. Standard input is empty. "
        f"Limits: {limits_text(limits)}."
    )
    return tool(run_shell, meter="sandbox")
