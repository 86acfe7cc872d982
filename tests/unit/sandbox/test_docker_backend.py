"""What of docker's backend needs no daemon: its cap on starts, its answer to errors, what a daemon says of itself."""

import asyncio
import threading
from types import SimpleNamespace

import docker
import pytest
import requests

from actors.core.errors import SandboxUnavailable
from actors.sandbox.base import Limits, Missing
from actors.sandbox.docker import DockerBackend
from actors.sandbox.docker_engine import DockerEngine, EngineError, EngineFacts
from actors.sandbox.ground import Ground

FACTS = EngineFacts("28.0", remaps_users=False, limits=frozenset({"memory"}), missing=())


@pytest.fixture
async def backend(tmp_path, monkeypatch):
    made = DockerBackend(tmp_path)
    engine = SimpleNamespace(close=lambda: None)
    made._ground = Ground(lambda: SimpleNamespace(engine=engine, facts=FACTS))
    yield made
    await made.aclose()


@pytest.fixture
def engine():
    """An engine whose SDK is to be given by the test."""
    made = DockerEngine.__new__(DockerEngine)
    made.host = "unix:///somewhere"
    return made


async def test_few_containers_start_at_once(backend, monkeypatch):
    lock, pair = threading.Lock(), threading.Barrier(2, timeout=10)
    running, peak = 0, 0

    def start(*_):
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        pair.wait()
        with lock:
            running -= 1
        raise EngineError(Missing("a start", "try again"))

    monkeypatch.setattr(backend, "_start", start)
    calls = [asyncio.create_task(backend.create(Limits())) for _ in range(6)]
    async with asyncio.timeout(20):
        await asyncio.wait(calls)

    assert all(isinstance(call.exception(), SandboxUnavailable) for call in calls)
    assert peak == 2


async def test_what_the_daemon_refuses_is_said(backend, monkeypatch):
    def start(*_):
        raise EngineError(Missing("a container of the docker daemon", "it refused: no space left"))

    monkeypatch.setattr(backend, "_start", start)
    with pytest.raises(SandboxUnavailable, match="it refused: no space left"):
        await backend.create(Limits())


@pytest.mark.parametrize(
    ("options", "remaps"),
    [
        (["name=seccomp,profile=default"], False),
        (["name=seccomp,profile=default", "name=userns"], True),
        (["name=rootless"], True),
        (None, False),
    ],
)
def test_a_daemon_that_remaps_users_is_known(engine, options, remaps):
    engine._api = SimpleNamespace(info=lambda: {"SecurityOptions": options, "ServerVersion": "28.0"})
    assert engine.facts().remaps_users is remaps


def test_limits_that_the_daemon_cannot_keep_are_named(engine):
    engine._api = SimpleNamespace(info=lambda: {"MemoryLimit": True, "CpuCfsQuota": False, "PidsLimit": True})
    facts = engine.facts()

    assert facts.limits == {"memory", "pids"}
    assert [gap.what for gap in facts.missing] == ["control group for cpu"]
    assert facts.missing[0].fix


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ReadTimeout("timed out"),
        requests.exceptions.ConnectionError("reset"),
        docker.errors.DockerException("odd"),
        BrokenPipeError("gone"),
    ],
)
def test_errors_of_the_sdk_become_ours(engine, error):
    def info():
        raise error

    engine._api = SimpleNamespace(info=info)
    with pytest.raises(EngineError) as raised:
        engine.facts()
    assert "unix:///somewhere" in raised.value.missing.what
    assert str(error) in raised.value.missing.fix
