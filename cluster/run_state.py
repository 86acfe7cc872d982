"""`run.json` in the home folder: what runs there, for every command that has to find it."""

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .processes import Process

FAILED = "Greenroom failed: "
"""What the supervisor writes before the reason, on the terminal and in its log."""

State: TypeAlias = Literal["starting", "ready", "stopping"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the running system, for people: embedded here, or a real server elsewhere."""

    name: str
    what: str
    where: str
    embedded: bool = True


@dataclass(frozen=True, slots=True)
class RunState:
    """A run of `greenroom up`. Holds paths of secrets, never the secrets."""

    run_id: str
    pid: int
    started: int
    state: State
    host: str
    port: int
    url: str
    namespace: str
    run_dir: str
    log: str
    admin_key_file: str
    ray_token_file: str
    ray_address: str | None = None
    dashboard_url: str | None = None
    version: str = ""
    parts: tuple[Part, ...] = ()
    phases: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def supervisor(self) -> Process:
        return Process(self.pid, self.started)

    def with_state(self, state: State) -> "RunState":
        return replace(self, state=state)


def state_file(home: Path) -> Path:
    return home / "run.json"


def write(home: Path, state: RunState) -> None:
    """Replace the file whole, readable by its owner only."""
    file = state_file(home)
    staged = file.with_name(f".run.{secrets.token_hex(4)}")
    staged.touch(mode=0o600)
    staged.write_text(json.dumps(asdict(state), indent=2) + "\n")
    staged.replace(file)


def read(home: Path) -> RunState | None:
    """What the file says, whether or not that process still lives. None without a readable file."""
    try:
        members: dict[str, Any] = json.loads(state_file(home).read_text())
        members["parts"] = tuple(Part(**part) for part in members.get("parts", ()))
        return RunState(**members)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def running(home: Path) -> RunState | None:
    """The run whose supervisor lives, or None."""
    state = read(home)
    return state if state is not None and state.supervisor.is_alive() else None


def remove(home: Path, run_id: str) -> None:
    """Drop the file of this run; another run's is left alone."""
    state = read(home)
    if state is None or state.run_id == run_id:
        state_file(home).unlink(missing_ok=True)
