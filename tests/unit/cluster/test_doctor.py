"""`greenroom doctor` names what is missing and its fix, and does not stumble over a check that breaks."""

import importlib.metadata
import io
import shutil
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from actors.core.settings import Settings
from actors.sandbox.base import Capability, Level
from cluster import doctor, installation, machine, ports, reach
from cluster.finding import Finding

GIB = 1024**3


class Probed:
    """A sandbox backend whose canary has found this."""

    def __init__(self, capability):
        self._capability = capability

    async def probe(self):
        return self._capability

    async def aclose(self):
        pass


def examined(settings: Settings) -> tuple[int, str]:
    output = io.StringIO()
    return doctor.show(Console(file=output, width=100), settings), output.getvalue()


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):
    """Leave no check but the one given."""

    def leave(check) -> None:
        monkeypatch.setattr(installation, "CHECKS", (check,))
        monkeypatch.setattr(machine, "CHECKS", ())
        monkeypatch.setattr(reach, "CHECKS", ())

    return leave


def test_fine_weak_and_missing(only, home):
    for finding, code, said in (
        (Finding("Thing", "fine", "there"), 0, "Ready to start."),
        (Finding("Thing", "weak", "small", "get a bigger one"), 0, "get a bigger one"),
        (Finding("Thing", "missing", "gone", "get one"), 1, "get one"),
    ):
        only(lambda _, finding=finding: finding)
        exit_code, text = examined(Settings(home=home))
        assert exit_code == code
        assert said in text


def test_a_check_that_breaks_is_a_finding(only, home):
    def breaks(_settings):
        raise RuntimeError("no such thing")

    only(breaks)
    exit_code, text = examined(Settings(home=home))
    assert exit_code == 1
    assert "no such thing" in text


@pytest.mark.parametrize("version", [(3, 10, 1), (3, 14, 0)])
def test_another_python(monkeypatch, home, version):
    monkeypatch.setattr(installation, "sys", SimpleNamespace(version="x", platform="linux", version_info=version))
    assert installation.python(Settings(home=home)).grade == "missing"


def test_this_installation_is_whole(home):
    settings = Settings(home=home)
    for check in (installation.python, installation.packages, installation.import_names, installation.haproxy):
        assert check(settings).grade == "fine", check(settings)


def test_another_owner_of_an_import_name(monkeypatch, home):
    owners = {"actors": ["greenroom"], "cluster": ["greenroom", "cluster"], "rich": ["rich"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    finding = installation.import_names(Settings(home=home))
    assert finding.grade == "missing"
    assert "cluster belongs to cluster too" in finding.found
    assert "pip uninstall cluster" in finding.fix


def test_a_package_that_is_not_there_or_too_old(monkeypatch, home):
    wanted = ["no-such-package-of-ours>=1", "rich>=1000", "pytest>=1000; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: wanted)
    finding = installation.packages(Settings(home=home))
    assert finding.grade == "missing"
    assert "no-such-package-of-ours is not installed" in finding.found
    assert "rich is" in finding.found
    assert "pytest" not in finding.found


def test_uncompiled_files(monkeypatch, home):
    monkeypatch.setattr(importlib.util, "cache_from_source", lambda _path: "/nowhere/x.pyc")
    finding = installation.compiled_files(Settings(home=home))
    assert finding.grade == "weak"
    assert f"{sys.executable} -m compileall" in finding.fix


@pytest.mark.parametrize(("free", "grade"), [(0.1 * GIB, "missing"), (2 * GIB, "weak"), (50 * GIB, "fine")])
def test_disk(monkeypatch, home, free, grade):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert machine.home_disk(Settings(home=home / "not" / "made")).grade == grade


@pytest.mark.parametrize(("available", "grade"), [(1 * GIB, "missing"), (2 * GIB, "weak"), (8 * GIB, "fine")])
def test_memory(monkeypatch, home, available, grade):
    monkeypatch.setattr(machine, "_available_memory", lambda: available)
    monkeypatch.setattr(machine, "_control_group_room", lambda: float("inf"))
    assert machine.memory(Settings(home=home)).grade == grade


def test_a_container_has_less(monkeypatch, home):
    monkeypatch.setattr(machine, "_available_memory", lambda: 64 * GIB)
    monkeypatch.setattr(machine, "_control_group_room", lambda: 1 * GIB)
    assert machine.memory(Settings(home=home)).grade == "missing"


def test_a_taken_port(monkeypatch, home):
    monkeypatch.setattr(ports, "is_free", lambda _host, port: port not in {8000, 8265})
    http = machine.http_port(Settings(home=home))
    assert (http.grade, http.fix) == ("missing", "greenroom up --port 8001")
    assert machine.dashboard_port(Settings(home=home)).grade == "fine"


def test_sandboxes_switched_off(home):
    assert [finding.grade for finding in reach.sandbox(Settings(home=home, sandbox="none"))] == ["weak"]


def test_docker_that_is_not_there_is_missed_only_by_who_uses_it(home, tmp_path):
    host = f"unix://{tmp_path / 'docker.sock'}"
    unused = reach.docker(Settings(home=home, sandbox_docker_host=host))
    used = reach.docker(Settings(home=home, sandbox="docker", sandbox_docker_host=host))
    wished = reach.docker(Settings(home=home, sandbox_docker_image="mine:1", sandbox_docker_host=host))

    assert (unused.grade, unused.fix) == ("fine", "")
    assert "not used" in unused.found
    for finding in (used, wished):
        assert finding.grade == "weak"
        assert host in finding.found
        assert "apt-get install docker.io" in finding.fix


def test_runsc_that_is_not_there_is_missed_only_by_who_uses_it(home, monkeypatch):
    monkeypatch.setattr("actors.sandbox.gvisor_runsc._PATH", str(home))
    unused = reach.gvisor(Settings(home=home))
    used = [
        reach.gvisor(Settings(home=home, **wish)) for wish in ({"sandbox": "gvisor"}, {"sandbox_min_level": "gvisor"})
    ]

    assert (unused.grade, unused.fix) == ("fine", "")
    assert "not used" in unused.found
    for finding in used:
        assert finding.grade == "weak"
        assert "runsc" in finding.found
        assert "apt-get install runsc" in finding.fix


def test_runsc_that_is_there_is_named(home, monkeypatch):
    monkeypatch.setattr("actors.sandbox.gvisor_runsc._PATH", str(home))
    (home / "runsc").write_text("#!/bin/sh\necho runsc version release-20990101.0; echo spec: 1.0\n")
    (home / "runsc").chmod(0o755)

    assert reach.gvisor(Settings(home=home)).found == f"20990101.0 at {home}/runsc"


def test_isolation_below_the_level_that_is_required(home, monkeypatch):
    weak = Capability("bubblewrap", Level.NAMESPACE, frozenset({"memory"}))
    monkeypatch.setattr(reach, "sandbox_backend", lambda _settings: Probed(weak))

    finding, gap = reach.sandbox(Settings(home=home, sandbox_min_level="container"))
    assert (finding.grade, gap.grade) == ("weak", "weak")
    assert "level namespace, and container is required" in finding.found
    assert "GREENROOM_SANDBOX_MIN_LEVEL" in gap.fix
    (finding,) = reach.sandbox(Settings(home=home))
    assert finding.grade == "fine"


def test_the_demo_model_needs_nothing(home):
    (finding,) = reach.model(Settings(home=home, llm="demo"))
    assert finding.grade == "fine"
    assert "OPENROUTER_API_KEY" in finding.found


def test_a_database_that_does_not_answer(home):
    (finding,) = reach.database(Settings(home=home, database_url="sqlite:////no/such/folder/x.db"))
    assert finding.grade == "missing"
    assert "GREENROOM_DATABASE_URL" in finding.fix
