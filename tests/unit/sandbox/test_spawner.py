"""Processes started by the small one that stays: what they get, what is heard of their end, and with whom they end."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.sandbox.spawner import Spawner, launcher, steps_of

SHELL = "/bin/sh"
WAIT_S = 10.0


@pytest.fixture
def spawner():
    made = Spawner()
    yield made
    made.close()


@pytest.fixture
def start(spawner):
    """Start a command of the shell: the process, and what it prints on standard error and on number 3."""
    fds = []

    def run(command, *, steps=None):
        said, extra = os.memfd_create("said"), os.memfd_create("extra")
        with Path(os.devnull).open() as nothing:
            arguments = [*(steps or steps_of(None, None, [(7, 256)])), SHELL, "-c", command]
            process = spawner.start(arguments, (nothing.fileno(), said, extra))
        fds.extend((said, extra))
        return process, lambda: tuple(os.pread(fd, 4096, 0).decode() for fd in (said, extra))

    yield run
    for fd in fds:
        os.close(fd)


def ended(pid, *, within_s=WAIT_S):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.01)  # no child of ours, so nobody tells
                continue
        return True
    return False


def server_of(process_output):
    return int(process_output()[0].split()[0])


def test_a_process_has_what_it_was_given_and_nothing_else(start):
    process, output = start("echo to 3 >&3; ulimit -n >&2; env >&2; echo . >&2; exec ls /proc/self/fd >&2")

    assert process.wait(WAIT_S)
    process.close()
    said, extra = output()
    before, _, fds = said.partition(".\n")
    limit, *variables = before.splitlines()
    assert (limit, extra) == ("256", "to 3\n")
    assert fds.split() == ["0", "1", "2", "3", "4"]  # the last is the folder that is read
    assert {line.partition("=")[0] for line in variables} <= {"PWD", "_", "SHLVL", "OLDPWD"}


def test_many_are_started_and_each_end_is_heard(start):
    sleeping, _ = start("exec sleep 1000")
    for number in range(5):
        process, output = start(f"echo {number} >&3")
        assert process.wait(WAIT_S)
        process.close()
        assert output()[1] == f"{number}\n"

    assert not sleeping.wait(0)
    sleeping.kill()
    assert sleeping.wait(WAIT_S)
    sleeping.kill()  # of one that has ended nobody else is hit
    sleeping.close()


def test_a_step_that_fails_is_told_on_standard_error(start):
    process, output = start("echo never >&3", steps=("0", "", "/nowhere/cgroup.procs", "7=256"))

    assert process.wait(WAIT_S)
    process.close()
    said, extra = output()
    assert said.startswith("launcher: [Errno 2]")
    assert extra == ""


def test_one_whose_small_process_was_ended_starts_another(start):
    first, output = start("echo $PPID >&2")
    assert first.wait(WAIT_S)
    first.close()
    os.kill(server_of(output), signal.SIGKILL)
    assert ended(server_of(output))

    second, later = start("echo $PPID >&2")

    assert second.wait(WAIT_S)
    second.close()
    assert server_of(later) not in (server_of(output), os.getpid())


def test_one_that_is_forgotten_leaves_nothing(start):
    made = Spawner()
    said = os.memfd_create("said")
    with Path(os.devnull).open() as nothing:
        steps = [*steps_of(None, None, [(7, 256)], mortal=True), SHELL, "-c", "echo $PPID >&2; exec sleep 1000"]
        process = made.start(steps, (nothing.fileno(), said))
    try:
        deadline = time.monotonic() + WAIT_S
        while not (pid := os.pread(said, 100, 0)) and time.monotonic() < deadline:
            time.sleep(0.01)  # another process writes it
        del made
        gc.collect()

        assert ended(int(pid))
        assert process.wait(WAIT_S)
    finally:
        process.close()
        os.close(said)


def test_it_ends_with_the_process_that_uses_it_even_when_it_cannot_run(tmp_path):
    """Nothing in it has to notice: the kernel ends it."""
    program = (
        "import os, sys, time\n"
        "from actors.sandbox.spawner import Spawner, steps_of\n"
        "spawner = Spawner()\n"
        "said = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "steps = [*steps_of(None, None, [(7, 256)]), '/bin/sh', '-c', 'echo $PPID >&2']\n"
        "spawner.start(steps, (os.open(os.devnull, os.O_RDONLY), said)).wait(10)\n"
        "print('on', flush=True)\n"
        "time.sleep(1000)\n"
    )
    said = tmp_path / "said"
    host = subprocess.Popen([sys.executable, "-c", program, str(said)], stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout:
        assert host.stdout.readline() == b"on\n"
    pid = int(said.read_text())
    os.kill(pid, signal.SIGSTOP)

    host.kill()
    host.wait()

    assert ended(pid)


def test_what_is_started_for_one_alone_takes_the_same_steps():
    command = launcher(*steps_of(None, None, [(7, 200)]), SHELL, "-c", "ulimit -n; exit 3")
    answer = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)

    assert (answer.returncode, answer.stdout) == (3, "200\n")
