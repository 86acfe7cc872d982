"""`greenroom down` ends the run it finds, however that is, and says what it did."""

import subprocess
import sys

from cluster import processes, run_state, stop

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
POLITE = "import signal; print('up', flush=True); signal.pause()"


def run(home, make_state, program):
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    own = processes.process(child.pid)
    assert own is not None
    run_state.write(home, make_state(pid=own.pid, started=own.started))
    return child


def ended(child):
    child.communicate(timeout=10)
    return child.returncode


def test_nothing_to_stop(home):
    assert stop.stop(home, timeout_s=1) == f"Nothing runs in {home}."


def test_stops_by_asking(home, make_state):
    child = run(home, make_state, POLITE)
    assert stop.stop(home, timeout_s=10) == f"Stopped Greenroom in {home}."
    assert ended(child) == -15
    assert run_state.read(home) is None


def test_kills_what_does_not_stop(home, make_state):
    child = run(home, make_state, STUBBORN)
    assert "was killed" in stop.stop(home, timeout_s=0.2)
    assert ended(child) == -9
    assert run_state.read(home) is None


def test_cleans_up_after_a_run_that_was_killed(home, make_state):
    run_state.write(home, make_state(started=1))
    assert "had ended by itself" in stop.stop(home, timeout_s=1)
    assert run_state.read(home) is None
