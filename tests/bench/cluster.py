"""A Greenroom of its own for a benchmark: temporary home, free ports, a scripted model server beside it."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.ports import free_ports

GREENROOM = Path(sys.executable).with_name("greenroom")


@dataclass(frozen=True, slots=True)
class Cluster:
    url: str
    key: str
    home: Path
    cold_start_s: float


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A child process, ended at the end."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def model_server(script: Path | None = None) -> Iterator[str]:
    """The base URL of a scripted model server without latency."""
    extra = ("--script", str(script)) if script else ()
    with program(sys.executable, "-m", "actors.testing.model_server", *extra) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextmanager
def baseline(model_url: str) -> Iterator[str]:
    """The base URL of the bare application."""
    port = free_ports(1)[0]
    with program(sys.executable, str(Path(__file__).with_name("baseline_app.py")), model_url, str(port)):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


def wait_until_idle(deadline_s: float = 30.0) -> None:
    """Let what starts after /ready (the rest of the fleet, the embedder) come to rest before turns are timed."""
    deadline = time.monotonic() + deadline_s
    busy, total = _processor_ticks()
    while time.monotonic() < deadline:
        time.sleep(1.0)
        busy_now, total_now = _processor_ticks()
        if busy_now - busy < 0.25 * (total_now - total):
            return
        busy, total = busy_now, total_now


def _processor_ticks() -> tuple[int, int]:
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


@contextmanager
def greenroom(model_url: str) -> Iterator[Cluster]:
    """A running Greenroom whose model is the scripted one; its start is timed from the command to `/ready`."""
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as home:
        port = free_ports(1)[0]
        environment = {
            **os.environ,
            "GREENROOM_HOME": home,
            "GREENROOM_LLM_BASE_URL": model_url,
            "GREENROOM_MODEL": "scripted",
            # Budgets count, as they do for everybody, and do not end.
            "GREENROOM_BUDGET_USER_HOUR_MICROS": "0",
            "GREENROOM_BUDGET_USER_DAY_MICROS": "0",
            "GREENROOM_BUDGET_USER_MONTH_MICROS": "0",
        }
        started = time.monotonic()
        up = subprocess.run(
            [str(GREENROOM), "up", "--detach", "--port", str(port)],
            env=environment,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
        if up.returncode:
            raise RuntimeError(re.sub(r"grk_\w+", "grk_…", up.stdout + up.stderr))
        seconds = time.monotonic() - started
        try:
            wait_until_idle()
            key = (Path(home) / "admin.key").read_text().strip()
            yield Cluster(f"http://127.0.0.1:{port}", key, Path(home), round(seconds, 2))
        finally:
            subprocess.run([str(GREENROOM), "down"], env=environment, timeout=120, check=False, capture_output=True)
