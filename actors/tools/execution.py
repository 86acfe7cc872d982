"""What the sandbox tools share: how a command's end is told to the model, and the border to the sandbox."""

from collections.abc import Generator
from contextlib import contextmanager

from ..core.errors import SandboxUnavailable
from ..sandbox.base import ExecResult, Limits
from ..sandbox.interior import tmp_bytes
from .base import ToolFailed, ToolResult


@contextmanager
def sandbox_border() -> Generator[None]:
    """Without isolation nothing runs. The error's message says why and what mends it; the model passes it on."""
    try:
        yield
    except SandboxUnavailable as error:
        raise ToolFailed(
            "unavailable",
            f"Nothing was done, because there is no sandbox now. {error.message}\n"
            "Tell the user this; another try in this turn is unlikely to help.",
        ) from error


def limits_text(limits: Limits) -> str:
    """The ceilings of a command, for a tool's description."""
    return (
        f"{limits.command_s:g} s, {_mb(limits.memory_bytes)} MB of memory, {limits.cpus:g} CPU, "
        f"{limits.pids} processes, {_mb(limits.workspace_bytes)} MB of files, {_mb(limits.output_bytes)} MB of output"
    )


def told(result: ExecResult, *, timeout_s: float, limits: Limits) -> ToolResult:
    """The output, and under it in words how the command ended when it did not end well."""
    parts = [result.output.rstrip("\n") or "(no output)"]
    if result.truncated:
        parts.append("[The output is not whole: only its head and its tail were kept.]")
    if result.verdict != "ok":
        parts.append(f"[{_ending(result, timeout_s, limits)}]")
    if result.variables in _VARIABLES:
        parts.append(f"[{_VARIABLES[result.variables]}]")
    return ToolResult(
        "\n".join(parts),
        error=None if result.verdict == "ok" else result.verdict,
        data={
            "verdict": result.verdict,
            "exit_code": result.exit_code,
            "wall_s": round(result.wall_s, 3),
            "truncated": result.truncated,
            "output_bytes": result.output_bytes,
            **_taken(result),
        },
    )


_VARIABLES = {
    "new": "This is a new interpreter: nothing of earlier calls is in it.",
    "gone": "The interpreter ended, and its variables are gone.",
}


def _taken(result: ExecResult) -> dict[str, object]:
    """What was counted, and no more."""
    taken = {
        "cpu_s": None if result.cpu_s is None else round(result.cpu_s, 3),
        "peak_memory_bytes": result.peak_memory_bytes,
        "variables": result.variables,
    }
    return {name: value for name, value in taken.items() if value is not None}


def _ending(result: ExecResult, timeout_s: float, limits: Limits) -> str:
    match result.verdict:
        case "timeout":
            return f"Stopped: it ran longer than {timeout_s:g} s. Do less at once, or work in steps."
        case "oom":
            return f"Killed: it used more than {_mb(limits.memory_bytes)} MB of memory. Process the data in parts."
        case "pids":
            return f"It could not start another process: {limits.pids} may run at once. Start fewer at a time."
        case "disk":
            return (
                f"The workspace ({_mb(limits.workspace_bytes)} MB) or /tmp ({_mb(tmp_bytes(limits))} MB) was full. "
                "Remove files, or write less."
            )
        case "output_limit":
            return f"Stopped: it printed more than {_mb(limits.output_bytes)} MB. Write to a file and print a part."
        case "policy":
            return "It was not run. Do it in an allowed way, or tell the user that it is not allowed."
        case "cancelled":
            return "Stopped: it was cancelled. It may have done part of its work."
        case "sandbox_lost":
            return "The sandbox died while this ran. It may have done part of its work, and its files may be gone."
        case "nonzero" | "ok":
            return _exit_text(result.exit_code)


def _exit_text(code: int | None) -> str:
    if code is None:
        return "It was not run."
    # As a shell has it: 128 and the number of the signal that ended it.
    return f"It ended with exit code {code}." if code <= 128 else f"It was ended by signal {code - 128}."


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:g}"
