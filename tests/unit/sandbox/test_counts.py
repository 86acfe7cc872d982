"""Counters of a group, on files that stand in for the kernel's."""

import pytest

from actors.sandbox.counts import Counters, Counts


@pytest.fixture
def version_2(tmp_path):
    (tmp_path / "memory.peak").write_text("7000\n")
    counters = Counters(2, dict.fromkeys(("memory", "pids", "cpu"), tmp_path))
    yield counters, tmp_path
    counters.close()


def test_where_nothing_is_counted_nothing_is_said():
    counters = Counters(1, {})
    assert counters.begin() == counters.read() == Counts()


def test_what_is_no_number_is_not_counted(tmp_path):
    for name in ("memory.events", "pids.events", "memory.peak", "cpu.stat"):
        (tmp_path / name).write_text("max\nmax many\noom_kill\n")
    assert Counters(2, dict.fromkeys(("memory", "pids", "cpu"), tmp_path)).read() == Counts()


def test_the_peak_is_counted_anew(version_2):
    """The kernel takes any text for the wish to begin anew, through the same descriptor."""
    counters, folder = version_2
    counters.begin()
    assert (folder / "memory.peak").read_text().startswith("0")
    (folder / "memory.peak").write_text("9000\n")
    assert counters.read().peak_memory_bytes == 9000


def test_a_kernel_that_keeps_one_peak_tells_of_a_higher_one_only(version_2, monkeypatch):
    def refuse(*_args):
        raise OSError(22, "Invalid argument")

    counters, folder = version_2
    monkeypatch.setattr("actors.sandbox.counts.os.pwrite", refuse)
    counters.begin()
    assert counters.read().peak_memory_bytes is None
    (folder / "memory.peak").write_text("9000\n")
    assert counters.read().peak_memory_bytes == 9000


def test_a_group_that_is_gone_counts_nothing(version_2):
    counters, folder = version_2
    counters.begin()
    counters.close()
    (folder / "memory.peak").unlink()
    assert counters.read() == Counts()
