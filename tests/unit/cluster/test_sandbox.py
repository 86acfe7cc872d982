"""`greenroom sandbox` says what was built, and what is missing with its fix; its exit code says if it will do."""

import pytest
from typer.testing import CliRunner

from actors.sandbox.base import Capability, Level, Missing
from actors.sandbox.unavailable import unavailable
from cluster import reach, sandbox
from cluster.cli import app

runner = CliRunner()
DAEMON = Missing("a docker daemon", "apt-get install docker.io")


class Backend:
    def __init__(self, capability):
        self._capability = capability
        self.closed = False

    async def probe(self):
        return self._capability

    async def build(self):
        if self._capability.level is Level.NONE:
            raise unavailable(*self._capability.missing)
        return "greenroom-sandbox:1-abc"

    async def aclose(self):
        self.closed = True


@pytest.fixture
def greenroom(monkeypatch, home):
    """Run a subcommand where the backend's canary has found this, and close the backend behind it."""

    def run(capability, *arguments):
        backend = Backend(capability)
        seen = []
        for module in (reach, sandbox):
            monkeypatch.setattr(module, "sandbox_backend", lambda settings: seen.append(settings.sandbox) or backend)
        result = runner.invoke(app, ["sandbox", *arguments, "--home", str(home)])
        assert backend.closed == bool(seen)
        return result, seen

    return run


def test_a_sandbox_that_will_do(greenroom):
    found = Capability("docker", Level.CONTAINER, frozenset({"memory", "cpu"}), (Missing("a count", "look closer"),))
    result, seen = greenroom(found, "probe", "--backend", "docker")

    assert result.exit_code == 0
    assert "docker: level container" in result.output
    assert "limits: cpu, memory" in result.output
    assert "egress: none" in result.output
    assert "look closer" in result.output
    assert seen == ["docker"]


def test_what_it_may_reach_is_said(greenroom):
    found = Capability("docker", Level.CONTAINER, frozenset({"memory"}), egress=("pypi.org", "*.example.org"))
    result, _ = greenroom(found, "probe")
    assert "egress: pypi.org, *.example.org" in result.output


def test_a_sandbox_that_will_not_do(greenroom, monkeypatch):
    result, _ = greenroom(Capability("docker", Level.NONE, missing=(DAEMON,)), "probe")
    assert result.exit_code == 1
    assert "apt-get install docker.io" in result.output

    monkeypatch.setenv("GREENROOM_SANDBOX_MIN_LEVEL", "container")
    result, _ = greenroom(Capability("bubblewrap", Level.NAMESPACE, frozenset({"memory"})), "probe")
    assert result.exit_code == 1
    assert "level namespace; container is required" in result.output
    assert "set GREENROOM_SANDBOX to auto or docker" in result.output


def test_what_is_built_is_named(greenroom):
    result, _ = greenroom(Capability("docker", Level.CONTAINER), "build")
    assert (result.exit_code, result.output) == (0, "Sandboxes are made from greenroom-sandbox:1-abc\n")


def test_what_cannot_be_built_is_said(greenroom):
    result, _ = greenroom(Capability("docker", Level.NONE, missing=(DAEMON,)), "build")
    assert result.exit_code == 1
    assert "missing: a docker daemon" in result.output
    assert "apt-get install docker.io" in result.output


@pytest.mark.parametrize("command", ["build", "probe"])
def test_switched_off(greenroom, command, monkeypatch):
    monkeypatch.setenv("GREENROOM_SANDBOX", "none")
    result, seen = greenroom(Capability("none", Level.NONE), command)
    assert result.exit_code == 1
    assert "GREENROOM_SANDBOX" in result.output
    assert seen == []


def test_a_backend_that_does_not_exist_is_one_line(greenroom):
    result, _ = greenroom(Capability("none", Level.NONE), "probe", "--backend", "chroot")
    assert result.exit_code == 1
    assert "GREENROOM_SANDBOX" in result.output
    assert "Traceback" not in result.output
