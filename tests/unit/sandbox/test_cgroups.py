"""Control groups of both versions, on folders that stand in for the kernel's."""

from dataclasses import replace
from pathlib import Path

import pytest

from actors.sandbox import owners
from actors.sandbox.base import Limits
from actors.sandbox.cgroups import ControlGroup, ControlGroups, Surroundings, find_control_groups, group_of
from actors.sandbox.counts import Counters, Counts
from actors.sandbox.freezer import Freezer

LIMITS = Limits(memory_bytes=1 << 28, cpus=0.5, pids=64)


@pytest.fixture
def unified(tmp_path):
    """A machine with version 2 only; this process lives in a group of a user's session."""
    top = tmp_path / "cgroup"
    own = top / "user.slice/app.scope"
    own.mkdir(parents=True)
    for folder in (top, own):
        (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (folder / "cgroup.procs").write_text("")
    return Surroundings(
        mountinfo=f"30 23 0:26 / {top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n22 1 8:1 / / rw - ext4 /dev/sda rw\n",
        own_groups="0::/user.slice/app.scope\n",
        swap_is_on=True,
        may_use_top=False,
    ), top


@pytest.fixture
def split(tmp_path):
    """A machine with version 1, where pids is mounted together with another controller."""
    lines = []
    for number, controllers in enumerate(("memory", "pids,devices", "cpu,cpuacct")):
        (tmp_path / controllers).mkdir()
        lines.append(f"{number} 1 0:{number} / {tmp_path / controllers} rw - cgroup cgroup rw,{controllers}")
    (tmp_path / "memory/outer").mkdir()
    return Surroundings(
        mountinfo="\n".join(lines) + "\n",
        own_groups="3:memory:/outer\n2:pids,devices:/\n1:cpu,cpuacct:/gone\n0::/\n",
        swap_is_on=False,
        may_use_top=True,
    ), tmp_path


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_version_2_as_an_ordinary_user(unified):
    surroundings, top = unified
    groups = find_control_groups(surroundings)
    place = top / "user.slice/app.scope/greenroom"

    assert (groups.version, groups.missing) == (2, {})
    assert groups.places == dict.fromkeys(("memory", "pids", "cpu"), place)
    assert (place / "cgroup.subtree_control").read_text().startswith("+")

    group = groups.create(LIMITS)
    [folder] = group.folders
    assert folder.parent == place
    assert group.entrances == (folder / "cgroup.procs",)
    # `memory.swap.max` is there in the kernel's folders only; the two of our own processes are added to pids.
    assert written(folder) == {"memory.max": str(1 << 28), "pids.max": "66"}
    (folder / "cpu.max.burst").write_text("0\n")  # the kernel's, since 5.14
    group.limit_cpu()
    assert written(folder)["cpu.max"] == "50000 100000"
    assert written(folder)["cpu.max.burst"] == "50000"


def test_version_2_as_root_uses_the_top(unified):
    surroundings, top = unified
    groups = find_control_groups(replace(surroundings, may_use_top=True))
    assert set(groups.places.values()) == {top / "greenroom"}


def test_version_2_counts_what_memory_ended(unified):
    group = find_control_groups(unified[0]).create(LIMITS)
    assert group.counters.read() == Counts()
    (group.folders[0] / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    (group.folders[0] / "pids.events").write_text("max 4\n")
    (group.folders[0] / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    (group.folders[0] / "memory.peak").write_text("4096\n")
    assert group.counters.read() == Counts(oom_kills=2, forks_refused=4, cpu_s=1.5, peak_memory_bytes=4096)
    (group.folders[0] / "memory.stat").write_text("anon 300\nfile 5000\nshmem 40\nanon_thp 7\n")
    assert group.counters.memory_bytes() == 340


def test_version_2_moves_processes_out_of_the_way(unified, monkeypatch):
    """The kernel answers EBUSY while a group that is to hand controllers down has processes itself."""
    surroundings, top = unified
    own = top / "user.slice/app.scope"
    (own / "cgroup.procs").write_text("41\n42\n")
    moved = []
    real = type(own).write_text

    def write_text(path, text, *args, **options):
        if path == own / "cgroup.subtree_control" and len(moved) < 2:
            raise OSError(16, "Device or resource busy")
        if path == own / "greenroom-host/cgroup.procs":
            moved.append(text)
        return real(path, text, *args, **options)

    monkeypatch.setattr(type(own), "write_text", write_text)
    groups = find_control_groups(surroundings)

    assert moved == ["41", "42"]
    assert set(groups.places) == {"memory", "pids", "cpu"}


def test_version_2_that_is_not_delegated_says_so(unified, monkeypatch):
    def mkdir(path, *_args, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    groups = find_control_groups(unified[0])

    assert not groups.places
    assert set(groups.missing) == {"memory", "pids", "cpu"}
    assert "systemd-run --user --scope" in groups.missing["memory"].fix
    assert groups.create(LIMITS) is None


def test_version_1_stays_below_its_own_groups(split):
    surroundings, top = split
    groups = find_control_groups(surroundings)

    assert (groups.version, groups.missing) == (1, {})
    assert groups.places == {
        "memory": top / "memory/outer/greenroom",
        "pids": top / "pids,devices/greenroom",
        "cpu": top / "cpu,cpuacct/greenroom",  # its own group is not among what is mounted here
    }
    group = groups.create(replace(LIMITS, cpus=1.5))
    memory, pids, cpu = group.folders
    assert written(memory) == {"memory.limit_in_bytes": str(1 << 28)}
    assert written(pids) == {"pids.max": "66"}
    assert written(cpu) == {}
    group.limit_cpu()
    assert written(cpu) == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}

    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    (pids / "pids.events").write_text("max 1\n")
    (cpu / "cpuacct.usage").write_text("250000000\n")
    (memory / "memory.max_usage_in_bytes").write_text("8192\n")
    assert group.counters.read() == Counts(oom_kills=5, forks_refused=1, cpu_s=0.25, peak_memory_bytes=8192)
    (memory / "memory.stat").write_text("cache 5000\nrss 300\nshmem 40\ntotal_rss 900\n")
    assert group.counters.memory_bytes() == 340


def test_version_1_limits_swap_where_it_is_counted(split, monkeypatch):
    surroundings, _ = split
    real = type(split[1]).mkdir

    def mkdir(path, *args, **options):
        real(path, *args, **options)
        if "memory" in str(path):
            (path / "memory.memsw.limit_in_bytes").touch()

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    monkeypatch.setattr("pathlib.Path.rmdir", lambda _: None)
    groups = find_control_groups(replace(surroundings, swap_is_on=True))
    memory = groups.create(LIMITS).folders[0]

    assert (memory / "memory.memsw.limit_in_bytes").read_text() == str(1 << 28)


def test_version_1_with_swap_that_is_not_counted_bounds_no_memory(split):
    groups = find_control_groups(replace(split[0], swap_is_on=True))

    assert set(groups.places) == {"pids", "cpu"}
    assert "swap" in groups.missing["memory"].fix


def test_machine_without_control_groups():
    groups = find_control_groups(
        Surroundings("22 1 8:1 / / rw - ext4 /dev/sda rw\n", "", swap_is_on=False, may_use_top=True)
    )
    assert not groups.places
    assert set(groups.missing) == {"memory", "pids", "cpu"}


def test_group_that_cannot_be_set_up_is_removed(split, monkeypatch):
    groups = find_control_groups(split[0])
    monkeypatch.setattr("pathlib.Path.write_text", lambda *_: (_ for _ in ()).throw(OSError(22, "Invalid argument")))
    with pytest.raises(OSError, match="Invalid"):
        groups.create(LIMITS)
    assert not [folder for place in groups.places.values() for folder in place.iterdir()]


def test_leftovers_of_the_dead_are_removed(tmp_path):
    groups = ControlGroups(2, {"pids": tmp_path, "cpu": tmp_path})
    ours = owners.this_process_here()
    namespace, pid, started = ours.split(".")
    elsewhere = f"{int(namespace) + 1}.{pid}.1"  # of a container, say: its process may live, and cannot be seen
    later = f"{namespace}.{pid}.{int(started) - 1}"  # its number was given to another process, which is this one
    for owner in (ours, elsewhere, later, f"{namespace}.4194999.1"):
        (tmp_path / f"{owner}-ab").mkdir()
    (tmp_path / "other").mkdir()
    groups.remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {f"{ours}-ab", f"{elsewhere}-ab", "other"}


def test_version_1_has_a_freezer_of_its_own_tree(split):
    surroundings, top = split
    (top / "freezer").mkdir()
    mounts = f"{surroundings.mountinfo}9 1 0:9 / {top / 'freezer'} rw - cgroup cgroup rw,freezer\n"
    groups = find_control_groups(replace(surroundings, mountinfo=mounts))
    group = groups.create(LIMITS)

    assert set(groups.places) == {"memory", "pids", "cpu"}  # it is no limit
    assert group.freezer.file == group.folders[-1] / "freezer.state"
    assert group.folders[-1].parent == top / "freezer/greenroom"
    group.freezer.freeze()
    assert written(group.folders[-1]) == {"freezer.state": "FROZEN"}
    group.kill()
    assert written(group.folders[-1]) == {"freezer.state": "THAWED"}  # else it would not die


def test_version_2_freezes_the_group_itself(unified):
    surroundings, top = unified
    place = top / "user.slice/app.scope/greenroom"
    assert find_control_groups(surroundings).create(LIMITS).freezer is None  # before Linux 5.2
    (place / "cgroup.freeze").touch()

    group = find_control_groups(surroundings).create(LIMITS)
    (group.folders[0] / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    group.freezer.freeze()

    assert group.freezer.file == group.folders[0] / "cgroup.freeze"
    assert group.freezer.file.read_text() == "1"


def test_a_freezer_that_does_not_get_it_done_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("actors.sandbox.freezer._DEADLINE_S", 0.0)
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    with pytest.raises(TimeoutError, match=r"cgroup\.freeze"):
        Freezer.of(tmp_path, 2).freeze()


def test_remove_tells_whether_all_is_gone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (two / "still").mkdir()
    group = ControlGroup((one, two), Counters(2, {}))

    assert not group.remove()
    (two / "still").rmdir()
    assert group.remove()
    assert group.remove()


@pytest.mark.parametrize("line", ["4:memory:/outer/docker/{id}\n3:pids:/", "0::/outer/docker/{id}"])
def test_a_group_that_somebody_else_made_is_found_by_its_name(split, unified, line, monkeypatch):
    surroundings, top = unified if line.startswith("0") else split
    folder = top / ("" if line.startswith("0") else "memory") / "outer/docker/abc123"
    folder.mkdir(parents=True)
    events = folder / ("memory.events" if line.startswith("0") else "memory.oom_control")
    events.write_text("under_oom 0\noom_kill 2\n")
    read_text = Path.read_text
    told = line.format(id="abc123")
    monkeypatch.setattr(Path, "read_text", lambda p, *a: told if str(p) == "/proc/7/cgroup" else read_text(p, *a))

    assert group_of(7, "abc123", surroundings).counters.read().oom_kills == 2
    assert group_of(7, "another", surroundings) is None  # the number is that of a process somewhere else
    assert group_of(8, "abc123", surroundings) is None
