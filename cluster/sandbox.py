"""`greenroom sandbox`: builds what sandboxes are made from, and tries one out."""

import asyncio
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from actors.core.errors import SandboxUnavailable
from actors.core.settings import Settings
from actors.sandbox.base import Missing
from actors.sandbox.unavailable import STRONGER, missing_of
from actors.wiring.sandbox import required_level, sandbox_backend

from .reach import SANDBOX_S, probe_sandbox

_SWITCHED_OFF = "Sandboxes are switched off: unset GREENROOM_SANDBOX, or give --backend."


def build(console: Console, settings: Settings) -> int:
    """Print where it is. The exit code is 1 when it cannot be built."""
    if settings.sandbox == "none":
        console.print(_SWITCHED_OFF)
        return 1
    try:
        with console.status("Building …"):
            place = asyncio.run(_build(settings))
    except SandboxUnavailable as error:
        _name(console, missing_of(error))
        return 1
    console.print(f"Sandboxes are made from {escape(place)}", soft_wrap=True)
    return 0


async def _build(settings: Settings) -> str:
    backend = sandbox_backend(settings)
    try:
        return await backend.build()
    finally:
        await backend.aclose()


def probe(console: Console, settings: Settings) -> int:
    """Print what was found. The exit code is 1 when it is weaker than the settings ask for."""
    if settings.sandbox == "none":
        console.print(_SWITCHED_OFF)
        return 1
    with console.status("Trying a sandbox …"):
        found = asyncio.run(probe_sandbox(settings))
    if found is None:
        console.print(f"There was no answer within {SANDBOX_S:g} s.")
        return 1
    enough = found.level.reaches(required_level(settings))
    mark = "[green]✓[/]" if enough else "[red]✗[/]"
    required = "" if enough else f"; {settings.sandbox_min_level} is required, so tools that run code refuse"
    console.print(f"{mark} {found.backend}: level {found.level}{required}", soft_wrap=True)
    if enough:
        console.print(f"  limits: {', '.join(sorted(found.limits))}", soft_wrap=True)
        console.print(f"  egress: {escape(', '.join(found.egress) or 'none')}", soft_wrap=True)
    _name(console, found.missing or (() if enough else (STRONGER,)))
    return 0 if enough else 1


def _name(console: Console, missing: Iterable[Missing]) -> None:
    for gap in missing:
        console.print(f"[yellow]![/] missing: {escape(gap.what)}\n  [cyan]→ {escape(gap.fix)}[/]", soft_wrap=True)
