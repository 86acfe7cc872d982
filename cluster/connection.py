"""Reaching a running cluster from outside it: a notebook, a script, `ray job submit`, the `chat` command."""

import shlex
from pathlib import Path

from serve_app.client import Client

from . import run_state
from .environment import connection_environment
from .run_state import RunState


class NotRunning(Exception):
    """Greenroom does not run there; the message says how to start it."""


def find(home: Path) -> RunState:
    """The run of this home folder. Raises `NotRunning`."""
    state = run_state.running(home)
    if state is None or state.state == "stopping":
        raise NotRunning(f"Greenroom does not run in {home}. Start it with `greenroom up`.")
    return state


def api_key(state: RunState) -> str:
    return Path(state.admin_key_file).read_text().strip()


def client(home: Path) -> Client:
    """A client of the run's API, with the admin's key. Raises `NotRunning`."""
    state = find(home)
    return Client(state.url, api_key(state))


def variables(state: RunState) -> dict[str, str]:
    """Environment variables under which `ray.init()` and `ray job submit` find the run and may enter."""
    reached = {"RAY_ADDRESS": state.ray_address or "", "RAY_API_SERVER_ADDRESS": state.dashboard_url or ""}
    given = {name: value for name, value in reached.items() if value}
    return {**connection_environment(Path(state.ray_token_file)), **given, "RAY_NAMESPACE": state.namespace}


def exports(home: Path) -> list[str]:
    """The variables as lines for a shell. Raises `NotRunning`."""
    return [f"export {name}={shlex.quote(value)}" for name, value in variables(find(home)).items()]
