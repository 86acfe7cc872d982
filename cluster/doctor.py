"""`greenroom doctor`: what this machine has of what Greenroom needs, and the fix of what is missing."""

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actors.core.settings import Settings

from . import installation, machine, reach
from .finding import Finding

_MARKS = {"fine": "[green]✓[/]", "weak": "[yellow]![/]", "missing": "[red]✗[/]"}


def show(console: Console, settings: Settings) -> int:
    """Print the table; the exit code is 1 when something required is missing."""
    with console.status("Looking …"):
        found = examine(settings)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found:
        fix = f"\n[cyan]→ {escape(finding.fix)}[/]" if finding.fix else ""
        table.add_row(_MARKS[finding.grade], finding.name, escape(finding.found) + fix)
    console.print(table)
    missing = sum(finding.grade == "missing" for finding in found)
    weak = sum(finding.grade == "weak" for finding in found)
    console.print(f"\n{_verdict(missing, weak)}")
    return 1 if missing else 0


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a start would meet its subject."""
    checks = (*installation.CHECKS, *machine.CHECKS, *reach.CHECKS)
    return [finding for check in checks for finding in _tried(check, settings)]


def _tried(check: Callable[[Settings], Finding | list[Finding]], settings: Settings) -> list[Finding]:
    try:
        found = check(settings)
    except Exception as error:  # noqa: BLE001 - a check that breaks is a finding too
        reason = f"the check failed: {type(error).__name__}: {error}"
        return [Finding(check.__name__, "missing", reason, "tell the maintainers")]
    return found if isinstance(found, list) else [found]


def _verdict(missing: int, weak: int) -> str:
    if missing:
        return f"[red]{missing} required {'thing is' if missing == 1 else 'things are'} missing.[/]"
    return f"[green]Ready to start[/], {weak} could be better." if weak else "[green]Ready to start.[/]"
