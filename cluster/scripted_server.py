"""A scripted OpenRouter on a port, with faults on purpose and a bill: what `greenroom model-server` runs."""

import asyncio
import json
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from rich.console import Console
from rich.table import Table

from actors.testing.model_app import ScriptedModelApp
from actors.testing.model_server import serve
from actors.testing.wire_faults import WireFaults
from actors.testing.wire_fixtures import FIXTURES


class WrongScript(Exception):
    """The script cannot be read."""


def read_script(file: Path | None) -> dict[str, Any]:
    """A script in TOML, or in JSON where the name ends so. Raises `WrongScript`."""
    if file is None:
        return {}
    try:
        text = file.read_text()
        script: object = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise WrongScript(f"{file}: {error}") from error
    if not isinstance(script, dict):
        raise WrongScript(f"{file}: a script is an object")
    return script


def make_app(file: Path | None, *, fault_rate: float = 0.0, seed: int = 0) -> ScriptedModelApp:
    """Raises `WrongScript`."""
    script = read_script(file)
    try:
        return ScriptedModelApp.from_json(script, faults=WireFaults(fault_rate, seed=seed) if fault_rate else None)
    except ValueError as error:
        raise WrongScript(f"{file}: {error}" if file else str(error)) from error


def run(app: ScriptedModelApp, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, then print the bill. Raises OSError when the port cannot be had."""
    signal.signal(signal.SIGTERM, _leave)  # uvicorn ends in order and then raises the signal again
    try:
        with asyncio.Runner(loop_factory=uvicorn.Config(app).get_loop_factory()) as runner:
            runner.run(serve(app, host=host, port=port))
    except (KeyboardInterrupt, SystemExit):
        pass
    sys.stdout.write(json.dumps(app.bill.as_json()) + "\n")
    sys.stdout.flush()


def show_fixtures(console: Console) -> None:
    """What can be named as `fixture`."""
    table = Table("fixture", "what it plays", box=None)
    for name, fixture in FIXTURES.items():
        table.add_row(name, fixture.about)
    console.print(table)


def _leave(signum: int, frame: object) -> NoReturn:
    del signum, frame
    raise SystemExit(0)
