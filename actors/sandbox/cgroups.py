"""Control groups, version 1 and 2: what bounds memory, processes and processor time of a whole sandbox.

Every sandbox gets a group of its own below a folder `greenroom`. Version 1 has one tree of folders per
controller, version 2 one for all. Controllers that cannot be had are reported in `missing`.
"""

import contextlib
import errno
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import owners
from .base import Limits, Missing
from .counts import OOM_EVENTS, Counters, Version
from .freezer import Freezer, can_freeze

CONTROLLERS = ("memory", "pids", "cpu")
_ACCOUNTS = "cpuacct"
"""Counts processor time in version 1 and limits nothing; version 2 counts it in every group."""
# The monitor of bubblewrap and the agent are in the group, but not of the tool's making.
OWN_PROCESSES = 2
FREEZER = "freezer"
"""In version 1 a tree of its own; in version 2 every group can be frozen."""
_LEFTOVER_S = 2.0
_LEFTOVER_POLL_S = 0.002
_PERIOD_US = 100_000
_FOLDER = "greenroom"
_HOST_LEAF = "greenroom-host"


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The group of one sandbox. `cpu_settings` wait for `limit_cpu`; `freezer` is None where it cannot be frozen."""

    folders: tuple[Path, ...]
    counters: Counters
    cpu_settings: tuple[tuple[Path, str], ...] = ()
    freezer: Freezer | None = None

    @property
    def entrances(self) -> tuple[Path, ...]:
        """Files to which a process writes "0" to come in."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def limit_cpu(self) -> None:
        """Bound processor time from now on. Raises OSError.

        Done when the agent is ready and no tool code has run: a start that may use half a processor takes
        twice as long.
        """
        for path, value in self.cpu_settings:
            _write_setting(path, value)

    def kill(self) -> None:
        """Send SIGKILL to all that is in the group now, frozen or not."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        if self.freezer:
            self.freezer.let_die()

    def remove(self) -> bool:
        """Remove the group; False while something in it still lives."""
        self.counters.close()
        gone = True
        for folder in self.folders:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Where groups can be made: for each controller that we have, the folder above them;
    for each of the others, why not. `accounts` is where version 1 counts processor time, if it can be had."""

    version: Version
    places: Mapping[str, Path]
    missing: Mapping[str, Missing] = field(default_factory=dict[str, Missing])
    accounts: Path | None = None
    freezer: Path | None = None
    """The folder above those groups that can be frozen."""

    def create(self, limits: Limits) -> ControlGroup | None:
        """A new, empty group with its limits set; None where there is no controller. Raises OSError."""
        if not self._folders:
            return None
        name = f"{owners.this_process_here()}-{secrets.token_hex(4)}"
        ours = {controller: place / name for controller, place in self.places.items()}
        if self.accounts:
            ours[_ACCOUNTS] = self.accounts / name
        folders = tuple(place / name for place in self._folders)
        cpu = self.places.get("cpu")
        cpu_settings = (
            tuple((cpu / name / file, value) for file, value in _cpu_settings(self.version, limits)) if cpu else ()
        )
        group = ControlGroup(folders, Counters(self.version, ours), cpu_settings, self._freezer_of(name))
        try:
            for folder in folders:
                folder.mkdir()
            for controller, place in self.places.items():
                for setting, value in _settings(self.version, controller, limits):
                    _write_setting(place / name / setting, value)
        except OSError:
            group.remove()
            raise
        return group

    def remove_leftovers(self) -> None:
        """End what is left of processes that were killed before they could end it, and remove its groups.

        What was frozen then has outlived its owner: in version 1 it could not even die.
        """
        left = {folder.name for place in self._folders for folder in place.glob("*-*/")}
        for name in sorted(name for name in left if owners.is_gone_here(name.rpartition("-")[0])):
            group = ControlGroup(
                tuple(place / name for place in self._folders), Counters(self.version, {}), (), self._freezer_of(name)
            )
            deadline = time.monotonic() + _LEFTOVER_S
            while not group.remove() and time.monotonic() < deadline:
                group.kill()
                time.sleep(_LEFTOVER_POLL_S)  # the kernel tells nobody when a group is empty

    @property
    def limits(self) -> frozenset[str]:
        """What groups enforce here, as `Capability.limits` names it."""
        places = frozenset(self.places)
        return places | {"freeze"} if self.freezer else places

    @property
    def _folders(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((*self.places.values(), *filter(None, (self.accounts, self.freezer)))))

    def _freezer_of(self, name: str) -> Freezer | None:
        return Freezer.of(self.freezer / name, self.version) if self.freezer else None


_BURST: Mapping[Version, str] = {1: "cpu.cfs_burst_us", 2: "cpu.max.burst"}
_OPTIONAL = frozenset({"memory.memsw.limit_in_bytes", "memory.swap.max", *_BURST.values()})


def _settings(version: Version, controller: str, limits: Limits) -> list[tuple[str, str]]:
    memory = str(limits.memory_bytes)
    match controller, version:
        case "pids", _:
            return [("pids.max", str(limits.pids + OWN_PROCESSES))]
        case "memory", 1:
            return [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)]
        case "memory", _:
            return [("memory.max", memory), ("memory.swap.max", "0")]
        case _:
            return []


def _cpu_settings(version: Version, limits: Limits) -> list[tuple[str, str]]:
    quota = str(max(1000, round(limits.cpus * _PERIOD_US)))
    # What was not used may be made up for, once: a command after a rest is not stopped in the midst of a period.
    burst = (_BURST[version], quota)
    if version == 1:
        return [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", quota), burst]
    return [("cpu.max", f"{quota} {_PERIOD_US}"), burst]


def _write_setting(path: Path, value: str) -> None:
    # A kernel without swap accounting has no such file, and `find_control_groups` has seen to it that there is no swap;
    # one before 5.14 has none for bursts.
    if path.name not in _OPTIONAL or path.exists():
        path.write_text(value)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the kernel says of this process and its mounts. `may_use_top`: groups may be made at the tree's top."""

    mountinfo: str
    own_groups: str
    swap_is_on: bool
    may_use_top: bool

    @classmethod
    def of_this_process(cls) -> "Surroundings":
        return cls(
            mountinfo=Path("/proc/self/mountinfo").read_text(),
            own_groups=Path("/proc/self/cgroup").read_text(),
            swap_is_on=len(Path("/proc/swaps").read_text().splitlines()) > 1,
            may_use_top=os.geteuid() == 0,
        )


@dataclass(slots=True)
class _Mount:
    folder: Path
    root: str
    controllers: frozenset[str]


@dataclass(slots=True)
class _Found:
    unified: _Mount | None = None
    by_controller: dict[str, _Mount] = field(default_factory=dict[str, _Mount])


def find_control_groups(surroundings: Surroundings) -> ControlGroups:
    """Look for controllers and prepare our folder below them. Does not raise: what fails is `missing`."""
    mounts = _mounts(surroundings.mountinfo)
    own = {
        controller: path
        for _, controllers, path in (line.split(":", 2) for line in surroundings.own_groups.splitlines())
        for controller in controllers.split(",")
    }
    unified = mounts.unified
    if unified and "memory" in unified.controllers:
        parent = unified.folder if surroundings.may_use_top else _own_folder(unified, own.get("", "/"))
        places, missing = _unified_places(parent)
        version: Version = 2
        accounts = None
        freezer = next((place for place in places.values() if can_freeze(place)), None)
    else:
        places, missing = _split_places(mounts.by_controller, own)
        version = 1
        accounts = _split_places(mounts.by_controller, own, (_ACCOUNTS,))[0].get(_ACCOUNTS)
        freezer = _split_freezer(mounts.by_controller.get(FREEZER), own)
    if "memory" in places and surroundings.swap_is_on and not _counts_swap(version, places["memory"]):
        del places["memory"]
        missing["memory"] = _missing("memory", "swap is on and not counted; turn it off or boot with swapaccount=1")
    return ControlGroups(version, places, missing, accounts, freezer)


def group_of(pid: int, name: str, surroundings: Surroundings) -> ControlGroup | None:
    """The group that somebody else has made for a process, to read its counts; None where that for memory cannot be
    seen from here. `name` has to be in its path: a process id alone may be that of another place's numbering."""
    mounts = _mounts(surroundings.mountinfo)
    unified = mounts.unified if mounts.unified and "memory" in mounts.unified.controllers else None
    folders: dict[str, Path] = {}
    try:
        lines = Path("/proc", str(pid), "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if name not in path:
            continue
        for controller in controllers.split(",") if controllers else CONTROLLERS:
            mount = mounts.by_controller.get(controller) if controllers else unified
            folder = _own_folder(mount, path) if mount else None
            if folder and name in str(folder):
                folders[controller] = folder
    version: Version = 2 if unified else 1
    memory = folders.get("memory")
    seen = memory is not None and (memory / OOM_EVENTS[version]).exists()
    return ControlGroup((), Counters(version, folders)) if seen else None


def _mounts(mountinfo: str) -> _Found:
    found = _Found()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        folder = Path(fields[4])
        if kind[0] == "cgroup2":
            with contextlib.suppress(OSError):
                controllers = frozenset((folder / "cgroup.controllers").read_text().split())
                found.unified = _Mount(folder, fields[3], controllers)
        elif kind[0] == "cgroup":
            controllers = frozenset(kind[2].split(","))
            for controller in controllers.intersection((*CONTROLLERS, _ACCOUNTS, FREEZER)):
                found.by_controller[controller] = _Mount(folder, fields[3], controllers)
    return found


def _own_folder(mount: _Mount, path: str) -> Path:
    # In a container without a cgroup namespace the path is the host's, and only a part of it is mounted.
    relative = path.removeprefix(mount.root.rstrip("/")).lstrip("/")
    folder = mount.folder / relative
    return folder if folder.is_dir() else mount.folder


def _split_places(
    mounts: Mapping[str, _Mount], own: Mapping[str, str], controllers: Sequence[str] = CONTROLLERS
) -> tuple[dict[str, Path], dict[str, Missing]]:
    places: dict[str, Path] = {}
    missing: dict[str, Missing] = {}
    for controller in controllers:
        mount = mounts.get(controller)
        if mount is None:
            missing[controller] = _missing(controller, "the kernel has no such control group mounted")
            continue
        place = _own_folder(mount, own.get(controller, "/")) / _FOLDER
        try:
            place.mkdir(exist_ok=True)
            _try_group(place)
        except OSError as error:
            fix = f"as root: mkdir -p {place} && chown -R {os.geteuid()} {place} ({error})"
            missing[controller] = _missing(controller, fix)
        else:
            places[controller] = place
    return places, missing


def _split_freezer(mount: _Mount | None, own: Mapping[str, str]) -> Path | None:
    """Where groups that can be frozen are made; None where there are none: then idle sandboxes are left as they are."""
    if mount is None:
        return None
    place = _own_folder(mount, own.get(FREEZER, "/")) / _FOLDER
    try:
        place.mkdir(exist_ok=True)
        _try_group(place)
    except OSError:
        return None
    return place


def _unified_places(parent: Path) -> tuple[dict[str, Path], dict[str, Missing]]:
    place = parent / _FOLDER
    places: dict[str, Path] = {}
    missing: dict[str, Missing] = {}
    try:
        place.mkdir(exist_ok=True)
        _try_group(place)
    except OSError as error:
        fix = f"run Greenroom in a delegated group, as with: systemd-run --user --scope -p Delegate=yes ({error})"
        return {}, {controller: _missing(controller, fix) for controller in CONTROLLERS}
    for controller in CONTROLLERS:
        try:
            _hand_down(parent, controller)
            _hand_down(place, controller)
        except OSError as error:
            missing[controller] = _missing(controller, f"let {parent} hand it down in cgroup.subtree_control ({error})")
        else:
            places[controller] = place
    return places, missing


def _hand_down(folder: Path, controller: str) -> None:
    control = folder / "cgroup.subtree_control"
    try:
        control.write_text(f"+{controller}")
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A group that hands controllers down may hold no process itself: its processes move into a leaf.
        _move_processes(folder, folder / _HOST_LEAF)
        control.write_text(f"+{controller}")


def _move_processes(source: Path, leaf: Path) -> None:
    leaf.mkdir(exist_ok=True)
    for pid in (source / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # it ended meanwhile
            (leaf / "cgroup.procs").write_text(pid)


def _try_group(place: Path) -> None:
    trial = place / f"{owners.this_process_here()}-{secrets.token_hex(4)}"
    trial.mkdir()
    trial.rmdir()


def _counts_swap(version: Version, place: Path) -> bool:
    return version == 2 or (place / "memory.memsw.limit_in_bytes").exists()


def _missing(controller: str, fix: str) -> Missing:
    return Missing(f"control group for {controller}", fix)
