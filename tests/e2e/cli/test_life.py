"""Starting and stopping: what is in the way, what a stop leaves behind, what a kill leaves behind."""

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cluster import ports

pytestmark = pytest.mark.timeout(240)


def start_in_foreground(home, *arguments: str) -> subprocess.Popen[str]:
    """`greenroom up` in a process group of its own."""
    return subprocess.Popen(
        [home.command, "up", "--no-dashboard", *arguments],
        env=home.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(child: subprocess.Popen[str], text: str, *, timeout_s: float) -> str:
    assert child.stdout is not None
    deadline = time.monotonic() + timeout_s
    seen = b""
    while text.encode() not in seen:
        readable, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, f"not within {timeout_s} s: {seen.decode()}"
        chunk = os.read(child.stdout.fileno(), 65536)
        assert chunk, f"it ended: {seen.decode()}"
        seen += chunk
    return seen.decode()


@pytest.fixture
def foreground(home):
    """A cluster in the foreground; what it printed; ended at the end of the test however that is."""
    port = ports.free_ports(1)[0]
    child = start_in_foreground(home, "--port", str(port))
    try:
        read_until(child, "Ctrl-C stops it", timeout_s=170)
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(90)
        assert child.stdout is not None
        child.stdout.close()


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_a_signal_stops_everything_that_was_started(home, foreground, how):
    run_id, run_dir = home.state["run_id"], Path(home.state["run_dir"])
    assert len(home.left_over(run_id)) > 5

    if how == "Ctrl-C":
        os.killpg(foreground.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    else:
        foreground.terminate()

    assert foreground.wait(90) == 0
    assert home.left_over(run_id) == []
    assert not run_dir.exists()
    assert not (home.folder / "run.json").exists()
    assert (home.folder / "logs" / "ray" / "raylet.out").exists()


def test_what_a_killed_supervisor_leaves_is_swept(home, foreground):
    run_id, run_dir = home.state["run_id"], Path(home.state["run_dir"])
    os.kill(home.state["pid"], signal.SIGKILL)
    foreground.wait(30)

    assert home.greenroom("status").returncode == 3
    done = home.greenroom("down")

    assert done.returncode == 0
    assert "left behind" in done.stdout
    assert home.left_over(run_id) == []
    assert not run_dir.exists()
    assert home.greenroom("down").stdout.startswith("Nothing runs")


def test_a_signal_during_the_start_stops_it(home):
    port = ports.free_ports(1)[0]
    child = start_in_foreground(home, "--port", str(port))
    deadline = time.monotonic() + 60
    while not (home.folder / "run.json").exists() or len(home.left_over(home.state["run_id"])) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run_id = home.state["run_id"]

    child.terminate()

    output, _ = child.communicate(timeout=90)
    assert child.returncode == 0, output
    assert home.left_over(run_id) == []


def test_a_start_that_fails_says_why_and_leaves_nothing(home):
    """A database whose folder cannot be made."""
    home.environment["GREENROOM_DATABASE_URL"] = "sqlite:////no/such/folder/x.db"

    done = home.greenroom("up", "--detach", "--no-dashboard", "--port", str(ports.free_ports(1)[0]), timeout_s=170)

    assert done.returncode == 1
    assert "Greenroom failed: OperationalError" in done.stderr
    assert "up.log" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home.folder / "run.json").exists()


def test_a_taken_port_is_one_line_with_the_fix(home, taken_port):
    done = home.greenroom("up", "--port", str(taken_port))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Port {taken_port} on 127.0.0.1 is taken")
    assert "greenroom up --port" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_down_is_idempotent(home):
    for _ in range(2):
        done = home.greenroom("down")
        assert (done.returncode, done.stdout) == (0, f"Nothing runs in {home.folder}.\n")
