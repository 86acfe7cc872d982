"""What stands in the way of a start is said in one line that names the fix, before anything is started."""

import stat
from pathlib import Path

import pytest

from actors.core.settings import Settings
from cluster import launch, ports, run_dir, run_state


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[int]:
    """Ports that something else listens on; add to it."""
    numbers: set[int] = set()
    given = iter(range(40_000, 50_000))
    monkeypatch.setattr(ports, "is_free", lambda _host, port: port not in numbers)
    monkeypatch.setattr("cluster.environment.free_ports", lambda count: [next(given) for _ in range(count)])
    monkeypatch.setattr(run_dir, "make", lambda: tmp_path / "greenroom-of-a-run")
    return numbers


def test_prepares_folders_token_and_command(home, taken):
    ready = launch.prepare(Settings(home=home), dashboard=False, timings=True)

    token = home / "ray.token"
    assert len(token.read_text()) >= 32
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert ready.arguments[1:3] == ("-m", "cluster.supervisor")
    assert {"--no-dashboard", "--timings"} <= set(ready.arguments)
    assert token.read_text() not in " ".join(ready.arguments)
    assert ready.note is None


def test_keeps_the_token_and_the_log_before(home, taken):
    first = launch.prepare(Settings(home=home))
    token = (home / "ray.token").read_text()
    first.log.write_text("what was logged")
    second = launch.prepare(Settings(home=home))
    assert (home / "ray.token").read_text() == token
    assert second.log.read_text() == ""
    assert (home / "logs" / "up.log.1").read_text() == "what was logged"


def test_a_second_start_names_the_first(home, taken, make_state):
    run_state.write(home, make_state(url="http://127.0.0.1:8123"))
    with pytest.raises(launch.CannotStart, match=r"runs already .* http://127.0.0.1:8123 \(pid \d+.*greenroom down"):
        launch.prepare(Settings(home=home))


def test_what_a_killed_run_left_is_no_hindrance(home, taken, make_state):
    run_state.write(home, make_state(started=1))
    launch.prepare(Settings(home=home))
    assert not run_state.state_file(home).exists()


def test_a_taken_port_names_a_free_one(home, taken):
    taken |= {8000, 8001}
    with pytest.raises(launch.CannotStart, match=r"Port 8000 .* taken.*--port 8002"):
        launch.prepare(Settings(home=home))


def test_a_taken_dashboard_port_is_replaced_and_said(home, taken):
    taken |= {8265, 8266}
    ready = launch.prepare(Settings(home=home))
    assert ready.note is not None
    assert "8267" in ready.note
    assert ready.environment["GREENROOM_DASHBOARD_PORT"] == "8267"


def test_without_a_dashboard_its_port_does_not_matter(home, taken):
    taken.add(8265)
    assert launch.prepare(Settings(home=home), dashboard=False).note is None


def test_an_address_of_another_machine(home, taken, monkeypatch):
    def refuse(host: str, port: int) -> bool:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(ports, "is_free", refuse)
    with pytest.raises(launch.CannotStart, match=r"192\.0\.2\.77.*--host"):
        launch.prepare(Settings(home=home, host="192.0.2.77"))


def test_a_home_that_is_a_file(tmp_path, taken):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(launch.CannotStart, match="--home FOLDER"):
        launch.prepare(Settings(home=file / "home"))
