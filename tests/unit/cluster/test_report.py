"""The start-up report and `greenroom status` say where everything is, and keep addresses whole."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from actors.core.settings import Settings
from cluster import probe, report, run_state, status


def printed(show) -> str:
    output = io.StringIO()
    show(Console(file=output, width=40))
    return output.getvalue()


def test_the_doors(home, make_state):
    state = make_state()
    Path(state.admin_key_file).write_text("grk_secret\n")

    text = printed(lambda console: report.print_report(console, state, timings=True))

    for address in (
        "http://127.0.0.1:8000/#key=grk_secret",
        "http://127.0.0.1:8000/docs",
        "http://127.0.0.1:8000/metrics",
        "http://127.0.0.1:8265",
    ):
        assert address in text
    assert "Model      demo  embedded; offline" in text
    assert "Database   postgresql  postgresql://db/x" in text
    assert str(home) in text
    assert "7.2 s" in text
    assert "listens on" not in text


def test_without_dashboard_and_open_to_the_network(make_state):
    state = make_state(dashboard_url=None, host="0.0.0.0")
    text = printed(lambda console: report.print_report(console, state))
    assert "Dashboard" not in text
    assert "listens on 0.0.0.0:8000" in text


def test_brackets_are_text_and_no_markup(make_state):
    state = make_state(log="/[red]/up.log")
    assert "/[red]/up.log" in printed(lambda console: report.print_report(console, state))


@pytest.mark.parametrize(
    ("state", "ready", "code", "said"),
    [
        (None, False, 3, "does not run"),
        ("starting", False, 1, "is starting"),
        ("ready", True, 0, "2 sessions in 2 session actors"),
        ("ready", False, 1, "2 sessions in 2 session actors"),
    ],
)
def test_status(home, make_state, monkeypatch, state, ready, code, said):
    if state is not None:
        run_state.write(home, make_state(state=state))
    checks = [{"name": "sessions", "status": "healthy", "message": "2 sessions in 2 session actors"}]
    monkeypatch.setattr(probe, "get_json", lambda *_: json.loads(json.dumps({"checks": checks})))
    monkeypatch.setattr(probe, "is_ready", lambda *_: ready)

    codes = []
    text = printed(lambda console: codes.append(status.show(console, Settings(home=home))))

    assert codes == [code]
    assert said in " ".join(text.split())


def test_status_of_a_run_whose_http_does_not_answer(home, make_state, monkeypatch):
    run_state.write(home, make_state())
    monkeypatch.setattr(probe, "get_json", lambda *_: None)
    monkeypatch.setattr(probe, "is_ready", lambda *_: False)
    assert "does not answer" in printed(lambda console: status.show(console, Settings(home=home)))
