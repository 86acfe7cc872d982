"""Processes are told apart by pid and start, found by their run's mark, and ended one by one."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from cluster import processes
from cluster.processes import Process

WAITS = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start_one(program: str = WAITS, run_id: str | None = None) -> subprocess.Popen[str]:
        environment = dict(os.environ) if run_id is None else {**os.environ, processes.RUN_MARK: run_id}
        child = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        return child

    yield start_one
    for child in started:
        child.kill()
        child.communicate()


def identity(child: subprocess.Popen[str]) -> Process:
    found = processes.process(child.pid)
    assert found is not None
    return found


def test_a_process_is_its_pid_and_its_start():
    own = processes.process(os.getpid())
    assert own is not None
    assert own.is_alive()
    assert not Process(own.pid, own.started + 1).is_alive()


def test_there_is_no_process_of_a_pid_that_is_free():
    assert processes.process(2**22 + 1) is None


def test_one_that_ended_but_was_not_waited_for_is_not_alive(start):
    child = start()
    one = identity(child)
    child.kill()
    assert processes.wait_until(lambda: not one.is_alive(), timeout_s=10)
    assert child.returncode is None  # a zombie: nobody has asked for its exit code


def test_a_signal_misses_whoever_got_the_pid_later(start):
    child = start()
    Process(child.pid, identity(child).started + 1).send(signal.SIGKILL)
    assert identity(child).is_alive()


def test_those_of_a_run_are_found_by_its_mark(start):
    run_id = secrets.token_hex(8)
    marked = [start(run_id=run_id) for _ in range(2)]
    start(run_id=run_id + "0")
    start()
    assert {one.pid for one in processes.of_run(run_id)} == {child.pid for child in marked}


def test_ending_asks_first_and_insists_later(start):
    polite, stubborn = start(), start(STUBBORN)
    assert processes.end([identity(polite)], grace_s=10) == 0
    assert polite.wait(10) == -signal.SIGTERM
    assert processes.end([identity(stubborn)], grace_s=0.2) == 1
    assert stubborn.wait(10) == -signal.SIGKILL
    assert processes.end([], grace_s=10) == 0
