"""The `greenroom` command as a user runs it, and one cluster of its own for the whole folder."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.ports import free_ports

COMMAND = Path(sys.executable).with_name("greenroom")
UP_S = 170


@dataclass(frozen=True)
class Home:
    """A home folder, and the command with it."""

    folder: Path
    environment: dict[str, str] = field(repr=False)
    command: Path = COMMAND

    def greenroom(self, *arguments: str, stdin: str = "", timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.command, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text())

    def left_over(self, run_id: str) -> list[str]:
        """Command lines of processes that carry the mark of that run."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and f"GREENROOM_RUN={run_id}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Home]]:
    homes: list[Home] = []

    def make() -> Home:
        folder = tmp_path_factory.mktemp("cli") / "home"
        # Of the caller's environment no model server and no other cluster gets in.
        kept = {k: v for k, v in os.environ.items() if not re.match(r"GREENROOM_|RAY_|OPENROUTER_|COLUMNS$", k)}
        homes.append(Home(folder, {**kept, "GREENROOM_HOME": str(folder)}))
        return homes[-1]

    yield make
    for home in homes:
        home.greenroom("down", timeout_s=120)


@dataclass(frozen=True)
class Running:
    """A cluster that `greenroom up --detach` started, and what that printed."""

    home: Home
    port: int
    printed: str
    took_s: float


@pytest.fixture(scope="session")
def running(make_home: Callable[[], Home]) -> Running:
    home = make_home()
    port = free_ports(1)[0]
    began = time.monotonic()
    done = home.greenroom("up", "--detach", "--port", str(port), "--timings", timeout_s=UP_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return Running(home, port, done.stdout, time.monotonic() - began)


@pytest.fixture
def home(make_home: Callable[[], Home]) -> Home:
    """A home folder in which nothing runs."""
    return make_home()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
