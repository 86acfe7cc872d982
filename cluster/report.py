"""The start-up report, which `up` and `status` print: where everything is, and what is real."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from .run_state import RunState


def print_report(console: Console, state: RunState, *, timings: bool = False) -> None:
    """Print where the run's doors are. Shows the sign-in link, so it is for the operator's eyes."""
    took = f" [dim]({state.phases['ready']:.1f} s)[/]" if "ready" in state.phases else ""
    console.print(f"[bold green]Greenroom {escape(state.version)} is ready[/]{took}\n", highlight=False)
    for name, what, note in _doors(state):
        _row(console, name, what, note)
    console.print()
    for part in state.parts:
        _row(console, part.name, part.what, "; ".join(filter(None, ("embedded" if part.embedded else "", part.where))))
    _row(console, "State", str(Path(state.admin_key_file).parent), f"log: {state.log}")
    console.print()
    if timings:
        print_timings(console, state.phases)


def _doors(state: RunState) -> list[tuple[str, str, str]]:
    doors = [
        ("Chat", sign_in_link(state), "signs you in; keep it to yourself"),
        ("API", f"{state.url}/docs", f"key: {state.admin_key_file}"),
        ("Metrics", f"{state.url}/metrics", ""),
    ]
    if state.dashboard_url:
        doors.append(("Dashboard", state.dashboard_url, f"Ray's; it asks for the token in {state.ray_token_file}"))
    if state.host not in ("127.0.0.1", "localhost", "::1"):
        doors.append(("Network", f"listens on {state.host}:{state.port}", "reachable from other machines, without TLS"))
    return doors


def sign_in_link(state: RunState) -> str:
    """The chat page with the admin's key after `#`, which browsers do not send to servers."""
    key_file = Path(state.admin_key_file)
    key = key_file.read_text().strip() if key_file.exists() else ""
    return f"{state.url}/#key={key}" if key else f"{state.url}/"


def print_timings(console: Console, phases: dict[str, float]) -> None:
    before = 0.0
    for name, at_s in phases.items():
        line = f"  {at_s:7.2f} s  [dim]+{at_s - before:5.2f}[/]  {escape(name)}"
        console.print(line, soft_wrap=True, highlight=False)
        before = at_s
    console.print()


def _row(console: Console, name: str, what: str, note: str) -> None:
    # Soft wrap keeps an address whole on a narrow terminal, so that it can be clicked and copied.
    end = f"  [dim]{escape(note)}[/]" if note else ""
    console.print(f"  [bold]{name:<10}[/] {escape(what)}{end}", soft_wrap=True, highlight=False)
