"""What Ray and HAProxy start with, and what closes the ports that Ray leaves open."""

import json
import subprocess
from pathlib import Path

import pytest

from actors.core.settings import Settings
from cluster import environment
from serve_app.calls import error_from


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter(range(40_000, 50_000))
    monkeypatch.setattr(environment, "free_ports", lambda count: [next(given) for _ in range(count)])


def made(home: Path, **settings: object) -> dict[str, str]:
    return environment.run_environment(
        Settings(home=home, **settings), run_id="abc", run_dir=Path("/tmp/greenroom-x"), ray_token_file=home / "token"
    )


def test_settings_travel_by_the_environment(home, monkeypatch):
    for name, value in made(home, port=8123, host="0.0.0.0", dashboard_port=8300).items():
        if name.startswith("GREENROOM_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.home_dir, settings.port, settings.host, settings.dashboard_port) == (home, 8123, "0.0.0.0", 8300)


def test_a_cluster_never_starts_open(home):
    variables = made(home)
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_AUTH_TOKEN_PATH"] == str(home / "token")


def test_what_would_harm_is_dropped(home, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("MY_OWN", "kept")
    variables = made(home)
    assert "RAY_ADDRESS" not in variables
    assert "PYTHONDONTWRITEBYTECODE" not in variables
    assert variables["MY_OWN"] == "kept"


def test_two_runs_share_no_port_and_no_file(home):
    first = made(home)
    second = environment.run_environment(
        Settings(home=home), run_id="def", run_dir=Path("/tmp/greenroom-y"), ray_token_file=home / "token"
    )
    own = [name for name in first if name.endswith("_PORT") and not name.startswith("GREENROOM_")]
    assert len(own) >= 8
    assert not {first[name] for name in own} & {second[name] for name in own}
    files = [name for name in first if first[name].startswith("/tmp/greenroom-x/")]
    assert len(files) >= 6
    assert all(second[name].startswith("/tmp/greenroom-y/") for name in files)


def test_paths_of_sockets_are_short_enough(home):
    """HAProxy takes 97 characters, and Ray puts a folder named by 56 hex digits in between."""
    longest = Path(made(home)["RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"].replace("greenroom-x", "greenroom-abcdefgh"))
    assert len(str(longest.parent / ("0" * 56) / longest.name)) <= 97


def test_the_wrapper_closes_what_the_template_opens(home, tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "frontend prometheus\n    bind :9101\nfrontend http_frontend\n    bind *:8000\nlisten stats\n  bind *:8404\n"
    )
    stub = tmp_path / "haproxy"
    stub.write_text('#!/bin/sh\necho "$@"\n')
    stub.chmod(0o700)
    environment.write_haproxy_wrapper(home, str(stub))

    wrapper = environment.haproxy_wrapper(home)
    command = [wrapper, "-db", "-f", config, "-sf", "12", "13"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)

    assert done.stdout.split() == ["-dS", *(str(part) for part in command[1:])]
    assert config.read_text() == (
        "frontend prometheus\n    bind 127.0.0.1:9101\nfrontend http_frontend\n    bind *:8000\n"
        "listen stats\n  bind 127.0.0.1:8404\n"
    )
    # What it answers while no replica can: HAProxy sends the file as it is.
    head, _, body = (tmp_path / "500.http").read_bytes().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}".encode() in head
    problem = json.loads(body)
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "unavailable", True)
    assert error_from(503, body).retryable


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("GREENROOM_PORT", "eight thousand")
    with pytest.raises(environment.WrongSettings, match="GREENROOM_PORT"):
        environment.read_settings()
