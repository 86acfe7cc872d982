"""A newcomer's machine: a home folder of its own, a free port, and the project's commands on the path."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.ports import free_ports

ROOT = Path(__file__).parents[3]
START_S = 180.0


@dataclass(frozen=True)
class Newcomer:
    """Runs what the documents say, with port 8000 and the dashboard's port replaced by free ones."""

    home: Path
    port: int
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.home / ".greenroom" / "admin.key").read_text().strip()

    def mine(self, text: str) -> str:
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")

    def say(self, message: str, session_id: str | None = None) -> dict[str, Any]:
        body = {"message": message, **({"session_id": session_id} if session_id else {})}
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.post(f"{self.url}/api/v1/chat", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def shell(self, script: str) -> str:
        """Run a block of commands as one script that stops at the first failure; its output."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.mine(script)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def make_up(self) -> Iterator[None]:
        """`make up` in the foreground, ended with Ctrl-C."""
        process = subprocess.Popen(
            ["make", "up"], cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            self.wait_until_ready()
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail("Greenroom did not become ready")


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    home = tmp_path_factory.mktemp("home")
    port = free_ports(1)[0]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "OPENROUTER_"))}
    environment = {
        **kept,
        "HOME": str(home),
        "GREENROOM_PORT": str(port),
        "GREENROOM_DASHBOARD_PORT": str(free_ports(1)[0]),
    }
    someone = Newcomer(home, port, environment)
    yield someone
    someone.shell(". .venv/bin/activate && greenroom down")
