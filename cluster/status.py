"""`greenroom status`: what runs in a home folder, where its doors are, and how each part feels."""

from rich.console import Console
from rich.markup import escape

from actors.core.settings import Settings

from . import probe, processes, run_state
from .report import print_report

READY, NOT_READY, NOT_RUNNING = 0, 1, 3
"""Exit codes; 3 is what init scripts use for a service that does not run."""

_COLOURS = {"healthy": "green", "warning": "yellow", "unhealthy": "red"}


def show(console: Console, settings: Settings) -> int:
    """Print the report and return the exit code."""
    state = run_state.running(settings.home_dir)
    if state is None:
        console.print(f"Greenroom does not run in {settings.home_dir}. Start it with `greenroom up`.", soft_wrap=True)
        return NOT_RUNNING
    if state.state != "ready":
        console.print(f"Greenroom is {state.state} (pid {state.pid}); its log is {state.log}", soft_wrap=True)
        return NOT_READY
    print_report(console, state)
    health = probe.get_json(state.host, state.port, "/health")
    checks = (health or {}).get("checks", ())
    for check in checks:
        colour = _COLOURS.get(check["status"], "red")
        console.print(
            f"  {check['name']:<10} [{colour}]{check['status']:<9}[/] {escape(check['message'])}", soft_wrap=True
        )
    ready = probe.is_ready(state.host, state.port)
    if not checks:
        console.print(f"  {state.url}/health does not answer; see {state.log}", style="red", soft_wrap=True)
    running = processes.of_run(state.run_id)
    console.print(
        f"\n  pid {state.pid} and {len(running) - 1} processes below it; Ray at {state.ray_address}", soft_wrap=True
    )
    return READY if ready else NOT_READY
