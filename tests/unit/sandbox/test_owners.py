"""A process is told from every other one, also from a later one with its number."""

import os
import signal
import subprocess

import pytest

from actors.sandbox import owners


def test_a_process_that_lives_is_not_gone():
    assert not owners.is_gone(owners.this_process())


def test_a_process_with_the_same_number_is_another_one():
    place, _, _ = owners.this_process().rpartition(":")
    assert owners.is_gone(f"{place}:1")


def test_a_process_of_an_earlier_boot_is_gone():
    _, namespace, pid, started = owners.this_process().split(":")
    assert owners.is_gone(f"00000000-0000-0000-0000-000000000000:{namespace}:{pid}:{started}")


def test_a_process_that_cannot_be_seen_from_here_may_live():
    boot, namespace, pid, _ = owners.this_process().split(":")
    assert not owners.is_gone(f"{boot}:{int(namespace) + 1}:{pid}:1")


@pytest.mark.parametrize("label", ["", "x", ":", ":::", "a:b:c:d"])
def test_a_label_that_is_none_of_ours_is_left_alone(label):
    assert not owners.is_gone(label)


def test_a_process_that_has_ended_is_gone_before_it_is_buried():
    child = subprocess.Popen(["sleep", "1000"])
    boot, namespace, _, _ = owners.this_process().split(":")
    owner = f"{boot}:{namespace}:{child.pid}:{owners._start_time(child.pid)}"
    assert not owners.is_gone(owner)

    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert owners.is_gone(owner)
    child.wait()
