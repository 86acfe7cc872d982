"""A home folder and a run in it, whose supervisor is this test's own process."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster import processes
from cluster.run_state import Part, RunState


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def make_state(home: Path) -> Callable[..., RunState]:
    own = processes.process(os.getpid())
    assert own is not None
    state = RunState(
        run_id="0123456789abcdef",
        pid=own.pid,
        started=own.started,
        state="ready",
        host="127.0.0.1",
        port=8000,
        url="http://127.0.0.1:8000",
        namespace="greenroom",
        run_dir="/tmp/greenroom-of-a-test",
        log=str(home / "logs" / "up.log"),
        admin_key_file=str(home / "admin.key"),
        ray_token_file=str(home / "ray.token"),
        ray_address="[::ffff:127.0.0.1]:6379",
        dashboard_url="http://127.0.0.1:8265",
        version="1.2.3",
        parts=(Part("Model", "demo", "offline"), Part("Database", "postgresql", "postgresql://db/x", embedded=False)),
        phases={"Ray": 2.5, "ready": 7.25},
    )

    def make(**changes: Any) -> RunState:
        return replace(state, **changes)

    return make
