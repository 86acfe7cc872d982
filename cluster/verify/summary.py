"""What a check of a whole cluster came to, as data, as JSON, and as a table."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .violations import PROMISES, Promise, Violation

LISTED = 50
"""Violations that a person is shown one by one."""

NAMED = 5


@dataclass(slots=True)
class Summary:
    """`changing`: sessions that were trimmed again and again, so that nothing can be said of them."""

    settled: bool
    sessions: int = 0
    turns: int = 0
    events: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    changing: list[str] = field(default_factory=list[str])

    def by_promise(self) -> dict[Promise, int]:
        counted = Counter(violation.promise for violation in self.violations)
        return {promise: counted[promise] for promise in PROMISES}

    def as_json(self) -> dict[str, Any]:
        """With every violation, however many there are."""
        return {
            "settled": self.settled,
            "sessions": self.sessions,
            "turns": self.turns,
            "events": self.events,
            "by_promise": self.by_promise(),
            "violations": [asdict(violation) for violation in self.violations],
            "changing": self.changing,
        }


def print_summary(console: Console, summary: Summary) -> None:
    """The table, then the violations, most of all how many more there are than are shown."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, count in (("sessions", summary.sessions), ("turns", summary.turns), ("events", summary.events)):
        table.add_row(name, f"{count:,}", "")
    for promise, count in summary.by_promise().items():
        table.add_row(promise, f"[red]{count:,}[/]" if count else "[green]0[/]", PROMISES[promise])
    console.print(table)
    for violation in summary.violations[:LISTED]:
        place = violation.session_id + (f" {violation.turn_id}" if violation.turn_id else "")
        line = f"[red]{violation.promise}[/] {escape(place)} [dim]{violation.rule}[/]\n   {escape(violation.says)}"
        console.print(line, soft_wrap=True, highlight=False)
    if (more := len(summary.violations) - LISTED) > 0:
        console.print(f"… and {more:,} more; `--json` lists them all.")
    if summary.changing:
        console.print(_changing(summary.changing), style="yellow", soft_wrap=True)
    console.print(_verdict(summary))


def _changing(sessions: list[str]) -> str:
    named = ", ".join(sessions[:NAMED]) + (" …" if len(sessions) > NAMED else "")
    return f"Not checked, because trimmed again and again meanwhile: {named}"


def _verdict(summary: Summary) -> str:
    if count := len(summary.violations):
        return f"[red]{count:,} violation{'s' if count > 1 else ''}.[/]"
    open_turns = (
        "" if summary.settled else " Turns that still run were taken as they are; `--settled` asks for their end."
    )
    return f"[green]Every promise was kept.[/]{open_turns}"
