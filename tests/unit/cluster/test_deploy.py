"""`greenroom deploy` takes its steps in order, waits for machines, and says why it did not."""

import importlib
import io
import warnings
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from actors.core.errors import UnavailableError
from actors.core.settings import Settings


@pytest.fixture(scope="module")
def deploy() -> ModuleType:
    # Ray Serve warns of itself while it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("cluster.deploy")


class Ray:
    """A cluster that answers, and notes what is done to it."""

    def __init__(self, deploy: ModuleType) -> None:
        self.steps: list[str] = []
        self.refusals: list[Exception] = []
        self.statuses = [deploy.ApplicationStatus.DEPLOYING, deploy.ApplicationStatus.RUNNING]
        self.reason: str | None = None
        self.config = None

    def init(self, **options) -> SimpleNamespace:
        self.steps.append("init")
        return SimpleNamespace(dashboard_url="10.0.0.9:8265")  # where the head was before

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(gcs_address="10.0.0.1:6379")

    def shutdown(self) -> None:
        self.steps.append("shutdown")

    def prepare(self) -> None:
        self.steps.append("prepare")

    def application(self):
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def problem(self) -> str | None:
        return self.reason

    async def warm_actors(self) -> None:
        self.steps.append("warm")

    async def start_actors(self, _settings) -> None:
        self.steps.append("start")
        if self.refusals:
            raise self.refusals.pop()

    async def stop_actors(self, _settings, *, grace_s) -> None:
        self.steps.append("stop")

    def client(self, address: str) -> "Ray":
        assert address == "http://10.0.0.1:8265"
        return self

    def deploy_applications(self, config) -> None:
        self.steps.append("serve")
        self.config = config


@pytest.fixture
def cluster(deploy, monkeypatch) -> Ray:
    cluster = Ray(deploy)
    monkeypatch.setattr(deploy, "_ray", cluster)
    monkeypatch.setattr(deploy, "_POLL_S", 0.0)
    monkeypatch.setattr(deploy, "Boot", lambda _settings: cluster)
    monkeypatch.setattr(deploy, "ServeSubmissionClient", cluster.client)
    monkeypatch.setattr(deploy, "start_actors", cluster.start_actors)
    monkeypatch.setattr(deploy, "stop_actors", cluster.stop_actors)
    return cluster


@pytest.fixture
def run(deploy, home):
    def run(*, within_s: float = 60.0, restart: bool = False) -> tuple[int, str]:
        output = io.StringIO()
        options = {"address": "auto", "replicas": 2, "resource": None, "restart": restart, "within_s": within_s}
        code = deploy.run(Console(file=output, width=200), Settings(home=home), **options)
        return code, output.getvalue()

    return run


def test_the_database_comes_first_and_the_warming_last(cluster, run, home):
    code, said = run()
    assert code == 0
    assert cluster.steps == ["init", "prepare", "serve", "start", "warm", "shutdown"]
    assert cluster.config["applications"][0]["deployments"] == [{"name": "Api", "num_replicas": 2}]
    assert str(home / "admin.key") in said


def test_a_restart_stops_the_actors_before_new_ones_are_made(cluster, run):
    assert run(restart=True)[0] == 0
    assert cluster.steps == ["init", "prepare", "stop", "serve", "start", "warm", "shutdown"]


def test_machines_that_are_on_their_way_are_waited_for(cluster, run):
    cluster.refusals = [UnavailableError("no machine has room")] * 2
    code, said = run()
    assert code == 0
    assert cluster.steps.count("start") == 3
    assert "no machine has room" in said


def test_it_gives_up_when_its_time_is_over(cluster, run):
    cluster.refusals = [UnavailableError("no machine has room")] * 100
    code, said = run(within_s=0.0)
    assert code == 1
    assert "Not deployed: no machine has room" in said
    assert cluster.steps[-1] == "shutdown"


def test_an_application_that_does_not_start_says_why(cluster, run, deploy):
    cluster.statuses = [deploy.ApplicationStatus.DEPLOY_FAILED]
    cluster.reason = "the pepper is not there"
    code, said = run()
    assert code == 1
    assert "the pepper is not there" in said


def test_an_application_that_is_not_ready_in_time_is_told(cluster, run, deploy):
    cluster.statuses = [deploy.ApplicationStatus.DEPLOYING]
    code, said = run(within_s=0.0)
    assert code == 1
    assert "not ready in time" in said


def test_without_ray_the_exit_code_is_its_own(cluster, run, monkeypatch):
    def refuse(**_options) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(cluster, "init", refuse)
    code, said = run()
    assert code == 3
    assert "nobody there" in said
