"""A turn on a terminal: text as it is written, tools with what they print, and the bill.

Where the output is no terminal, it is the answer's text alone; all the rest goes to the error output.
"""

import json
from typing import Any

from rich.console import Console

from actors.core.money import format_usd
from serve_app.calls import Item, Shown

_CODE_LINES = 12
_OUTPUT_LINES = 20
_ARGUMENT_CHARS = 120


class Transcript:
    """Shows items in the order in which they come."""

    def __init__(self, out: Console, err: Console) -> None:
        self._out = out
        self._aside = out if out.is_terminal else err
        self._err = err
        self._shown = Shown()
        self._line_open = False
        self._tool_lines = 0

    def show(self, item: Item) -> None:
        """Show an event or a preview; what needs no showing is passed over."""
        match item.type:
            case "message.delta":
                self._answer(self._shown.take(item))
            case "message.completed":
                self._message(item)
            case "tool.requested":
                self._tool(item.data["call"])
            case "tool.progress":
                self._output(self._shown.take(item))
            case "tool.completed" | "tool.outcome_unknown":
                self._tool_end(item)
            case "turn.recovering":
                self.note("the process that ran this turn is gone; another one goes on")
            case "budget.reached":
                self.note(_reached(item.data))
            case "model.replaced":
                self.note(f"the budget is paused for expensive models: {item.data['model']} is asked instead")
            case "turn.completed" | "turn.failed" | "turn.cancelled":
                self._end(item)
            case _:
                pass

    def note(self, text: str) -> None:
        self._close_line()
        self._aside.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def error(self, text: str) -> None:
        self._close_line()
        self._err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)

    def _answer(self, text: str) -> None:
        if text:
            self._out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
            self._line_open = not text.endswith("\n")

    def _message(self, item: Item) -> None:
        if self._shown.differs(item):
            self.note("(the answer was started over)")
            self._answer(item.data["content"])
        else:
            self._answer(self._shown.take(item))
        self._close_line()

    def _tool(self, call: dict[str, Any]) -> None:
        self._close_line()
        self._tool_lines = 0
        head, block = _described(call)
        self._aside.print(f"▸ {head}", style="cyan", markup=False, highlight=False, soft_wrap=True)
        for line in _cut(block, _CODE_LINES):
            self._aside.print(f"  {line}", style="dim cyan", markup=False, highlight=False, soft_wrap=True)

    def _output(self, text: str) -> None:
        if text and self._aside.is_terminal:
            self._aside.print(text, style="dim", end="", markup=False, highlight=False, soft_wrap=True)
            self._line_open = not text.endswith("\n")
            self._tool_lines += text.count("\n") + 1

    def _tool_end(self, item: Item) -> None:
        self._close_line()
        if not self._tool_lines:
            for line in _cut(item.data.get("content", ""), _OUTPUT_LINES):
                self._aside.print(f"  {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
        if item.type == "tool.outcome_unknown":
            self.error(f"? {item.data['name']}: it was running when its process died; it is not run again")
            return
        failure = item.data.get("error")
        mark = f"✗ {failure}" if failure else "✓"
        style = "red" if failure else "green"
        took = f"{item.data.get('duration_ms', 0) / 1000:.2f} s"
        self._aside.print(f"{mark} {item.data['name']} {took}", style=style, highlight=False, soft_wrap=True)

    def _end(self, item: Item) -> None:
        self._close_line()
        if item.type == "turn.failed":
            self.error(item.data["error"]["message"])
        spent = item.data["spent"]
        usage = spent["usage"]
        tokens = f"{usage['prompt_tokens']} + {usage['completion_tokens']} tokens"
        cost = format_usd(spent["cost_micros"]) if spent["cost_known"] else "cost unknown"
        how = {"turn.cancelled": "cancelled · ", "turn.failed": "failed · "}.get(item.type, "")
        reason = item.data.get("stop_reason", "end_turn")
        limit = f" · stopped: {reason}" if reason != "end_turn" else ""
        self.note(f"{how}{cost} · {tokens}{limit}")

    def _close_line(self) -> None:
        if self._line_open:
            self._out.print()
            self._line_open = False


def _reached(data: dict[str, Any]) -> str:
    spent, window = format_usd(data["spent_micros"]), data["window"]
    follows = {
        "critical": "; what is expensive is refused until the window ends",
        "emergency": "; the account is suspended until an operator lifts that",
    }.get(data["severity"], "")
    return f"budget: {spent} spent this {window}, past {format_usd(data['threshold_micros'])}{follows}"


def _described(call: dict[str, Any]) -> tuple[str, str]:
    """A tool call as one line, and the program or text in it that needs more than one."""
    try:
        arguments: Any = json.loads(call["arguments"] or "{}")
    except ValueError:
        arguments = call["arguments"]
    if not isinstance(arguments, dict):
        return f"{call['name']} {str(arguments)[:_ARGUMENT_CHARS]}", ""
    short: list[str] = []
    block = ""
    for name, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if "\n" in text or len(text) > _ARGUMENT_CHARS:
            block += text + "\n"
        else:
            short.append(f"{name}={text}")
    return f"{call['name']} {', '.join(short)}".rstrip(), block


def _cut(text: str, lines: int) -> list[str]:
    every = text.rstrip("\n").splitlines()
    if len(every) <= lines:
        return every
    return [*every[:lines], f"… {len(every) - lines} lines more"]
