"""The Serve deployment without a cluster: its builder, and what its health checks make of parts that fail."""

import asyncio
import importlib
import warnings
from types import ModuleType, SimpleNamespace

import pytest

from actors.agent.fleet import FleetStatus
from actors.core.errors import SandboxUnavailable, SessionLost, StoreUnavailable
from actors.core.settings import Settings
from actors.sandbox.base import Capability, Level, Missing, SandboxStatus
from serve_app import health
from serve_app.health import Health


@pytest.fixture(scope="module")
def app() -> ModuleType:
    # Ray Serve warns of itself while it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("serve_app.app")


class Answers:
    """A part whose `status` (or `read`) answers, raises, or never comes back."""

    def __init__(self, answer) -> None:
        self._answer = answer
        self.engine = SimpleNamespace(dialect=SimpleNamespace(name="sqlite"))

    async def status(self):
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def read(self, work):
        return await self.status()


@pytest.fixture
def checked(app, monkeypatch):
    monkeypatch.setattr(health, "CHECK_S", 0.05)

    async def result(name: str, **parts):
        checks = app.Checks(SimpleNamespace(settings=Settings(), **parts))
        async with asyncio.timeout(5):
            return await Health(getattr(checks, f"check_{name}")).result()

    return result


def test_serve_gives_the_builder_settings_and_not_a_dict(app):
    """`serve deploy` passes arguments as JSON: with annotations as strings they would come as they are."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    built = call_user_app_builder_with_args_if_necessary(app.build, {"port": 8123})

    settings = built._bound_deployment.init_args[0]
    assert isinstance(settings, Settings)
    assert settings.port == 8123


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (SandboxStatus(Capability("bubblewrap", Level.NAMESPACE)), "healthy"),
        (SandboxStatus(Capability("bubblewrap", Level.NAMESPACE, missing=(Missing("pids", "fix"),))), "warning"),
        (SandboxStatus(Capability("none", Level.NONE, missing=(Missing("off", "fix"),))), "warning"),
        (SandboxUnavailable("no sandbox actor is running on any node"), "warning"),
        (None, "warning"),
    ],
    ids=["good", "lacks a limit", "none", "no actor", "loads for minutes"],
)
async def test_without_sandboxes_messages_can_still_be_accepted(checked, status, expected):
    result = await checked("sandbox", sandboxes=Answers(status))

    assert (result.name, result.status) == ("sandbox", expected)
    assert result.message


@pytest.mark.parametrize(
    ("domains", "said"), [((), "egress: none"), (("pypi.org", "*.a.org"), "egress: pypi.org, *.a.org")]
)
async def test_what_sandboxes_may_reach_is_said(checked, domains, said):
    status = SandboxStatus(Capability("bubblewrap", Level.NAMESPACE, egress=domains))
    assert said in (await checked("sandbox", sandboxes=Answers(status))).message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (FleetStatus({"session:0": 3}, (), 3), "healthy"),
        (FleetStatus({"session:0": 3, "session:1": 0}, ("session:1",), 3), "warning"),
        (FleetStatus({"session:0": 0}, ("session:0",), 0), "unhealthy"),
        (FleetStatus({}, (), 0), "unhealthy"),
        (SessionLost("the directory does not answer"), "unhealthy"),
        (None, "unhealthy"),
    ],
    ids=["good", "one silent", "all silent", "none", "no directory", "hangs"],
)
async def test_without_sessions_nothing_can_be_accepted(checked, status, expected):
    result = await checked("sessions", sessions=SimpleNamespace(directory=Answers(status)))

    assert (result.name, result.status) == ("sessions", expected)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(1, "healthy"), (StoreUnavailable("gone"), "unhealthy"), (RuntimeError("odd"), "unhealthy"), (None, "unhealthy")],
    ids=["good", "gone", "odd", "hangs"],
)
async def test_without_its_database_nothing_can_be_accepted(checked, answer, expected):
    result = await checked("database", database=Answers(answer))

    assert (result.name, result.status) == ("database", expected)
