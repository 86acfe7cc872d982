"""`greenroom verify --history` over a real database: what it prints, and its exit codes."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from actors.core.ids import uuid7_ids
from actors.testing import FakeClock, ScriptedLLM, says
from cluster.cli import app
from cluster.verify import ClientLog

runner = CliRunner()


@pytest.fixture
def home(told_home, tmp_path):
    """A copy of the home folder whose session saw everything."""
    shutil.copytree(told_home[0], tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def verify(home):
    def verify(*options, code=0):
        result = runner.invoke(app, ["verify", "--history", "--home", str(home), *options])
        assert result.exit_code == code, result.output
        return result.output

    return verify


@pytest.fixture
def change(home):
    """Statements that no Greenroom would do."""

    def change(*statements):
        with closing(sqlite3.connect(home / "greenroom.db")) as connection, connection:
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement

    return change


@pytest.fixture
def log_file(good_log, tmp_path):
    with ClientLog(tmp_path / "client.jsonl", FakeClock()) as log:
        for record in good_log:
            log.write(record)
    return tmp_path / "client.jsonl"


def test_a_good_history(verify, good):
    said = verify("--settled").split()
    assert said[said.index("sessions") + 1] == "1"
    assert said[said.index("turns") + 1] == "8"
    assert said[said.index("events") + 1] == str(len(good.events))
    assert "Every promise was kept." in " ".join(said)


def test_a_good_history_as_json(verify, good, log_file):
    summary = json.loads(verify("--json", "--settled", "--client-log", str(log_file)))
    assert summary["violations"] == []
    assert (summary["sessions"], summary["turns"], summary["events"]) == (1, 8, len(good.events))
    assert set(summary["by_promise"].values()) == {0}
    assert summary["settled"] is True


def test_a_history_is_only_read(verify, home):
    def everything():
        with closing(sqlite3.connect(home / "greenroom.db")) as connection:
            return list(connection.iterdump())

    before = everything()
    verify()
    assert everything() == before


def test_a_broken_history(verify, change):
    change("DELETE FROM events WHERE seq = 5")
    said = " ".join(verify(code=1).split())
    assert "Event 5 is missing before 6." in said
    assert "P4 sess_1" in said
    assert "violation" in said


def test_a_broken_history_as_json(verify, change):
    change("UPDATE attempts SET state = 'dispatched' WHERE turn_id = 'turn_1'")
    summary = json.loads(verify("--json", code=1))
    rules = {violation["rule"] for violation in summary["violations"]}
    assert "open_attempt" in rules
    assert summary["by_promise"]["ledger"] == len(summary["violations"])
    assert {"promise", "rule", "session_id", "says", "turn_id"} == set(summary["violations"][0])


def test_a_turn_that_runs_is_no_violation_unless_all_should_be_at_rest(verify, change):
    end = "SELECT MAX(seq) FROM events"
    change(
        f"DELETE FROM events WHERE seq = ({end})",
        f"UPDATE sessions SET last_seq = ({end}), status = 'running'",
        "UPDATE turns SET status = 'running', finished_at = NULL WHERE id = 'turn_8'",
    )
    assert "Turns that still run were taken as they are" in " ".join(verify().split())
    assert "turn_8 has no terminal event" in " ".join(verify("--settled", code=1).split())


def test_what_clients_know(verify, change, log_file):
    """The message is gone with all that came of it, and no table tells of it any more. Its client does."""
    for table, column in (("events", "seq > 56"), ("turns", "id = 'turn_8'"), ("attempts", "turn_id = 'turn_8'")):
        change(f"DELETE FROM {table} WHERE {column}")
    total = "(SELECT SUM({0}) FROM attempts)"
    names = ("prompt_tokens", "completion_tokens", "cost_micros")
    change(f"UPDATE sessions SET last_seq = 56, {', '.join(f'{n} = {total.format(n)}' for n in names)}")
    verify("--settled")
    said = " ".join(verify("--settled", "--client-log", str(log_file), code=1).split())
    assert "turn turn_8, of which the journal holds no message" in said


def test_a_session_that_a_client_knows_and_nobody_else(verify, change, log_file):
    change(*(f"DELETE FROM {table}" for table in ("events", "approvals", "turns", "attempts", "sessions")))
    assert "there is no such session" in " ".join(verify("--client-log", str(log_file), code=1).split())


def test_a_client_log_of_older_sessions_is_checked_all_the_same(verify, log_file):
    """They are outside of --since, and not lost."""
    summary = json.loads(verify("--json", "--since", "1s", "--client-log", str(log_file)))
    assert summary["sessions"] == 1


@pytest.mark.parametrize(("since", "sessions"), [("1s", 0), ("9999d", 1), ("2026-01-01", 1), ("2026-06-01", 0)])
def test_since(verify, since, sessions):
    assert json.loads(verify("--json", "--since", since))["sessions"] == sessions


def test_one_session(verify, open_place, home):
    async def another():
        async with open_place(home) as place:
            host = place.host(ScriptedLLM(otherwise=says("ok")), new_id=uuid7_ids(place.clock))
            await host.chat(place.says("hi", session_id="sess_2", message_id="m", turn_id="turn_x"), wait_s=5)

    asyncio.run(another())
    assert json.loads(verify("--json"))["sessions"] == 2
    assert json.loads(verify("--json", "--session", "sess_2"))["turns"] == 1


def test_many_violations_are_counted_and_not_all_shown(verify, change):
    rows = ", ".join(f"('turn_x{n}', 'sess_1', 'user_1', 'msg_x{n}', 'queued', 0, 0)" for n in range(60))
    change(f"INSERT INTO turns (id, session_id, user_id, message_id, status, created_at, accepted_seq) VALUES {rows}")
    said = verify(code=1)
    assert said.count("turn_without_events") == 50
    assert "and 10 more" in said
    assert len(json.loads(verify("--json", code=1))["violations"]) == 60


def test_a_session_that_keeps_changing_is_named_and_not_judged(verify, monkeypatch, log_file):
    from cluster.verify.journal import JournalReader, KeepsChanging

    async def never(self, session_id):
        raise KeepsChanging(session_id)

    monkeypatch.setattr(JournalReader, "read", never)
    assert "sess_1" in verify("--client-log", str(log_file))
    assert json.loads(verify("--json"))["changing"] == ["sess_1"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--session", "sess_none"], "no session sess_none"),
        (["--since", "last week"], "no age such as 7d"),
        (["--client-log", "/nowhere/log"], "/nowhere/log"),
    ],
)
def test_what_cannot_be_read(verify, options, said):
    assert said in verify(*options, code=2)
    assert said in verify(*options, "--json", code=2)


def test_a_log_that_is_none(verify, tmp_path):
    (tmp_path / "log").write_text("hello\n")
    assert "line 1" in verify("--client-log", str(tmp_path / "log"), code=2)
    (tmp_path / "log").write_text('{"kind": "closed", "at": 1, "wall": "2026-01-01T00:00:00Z", "connection": "c9"}\n')
    assert "c9" in verify("--client-log", str(tmp_path / "log"), code=2)


def test_a_home_without_a_database(tmp_path):
    result = runner.invoke(app, ["verify", "--history", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert "greenroom up" in result.output
    assert list(tmp_path.iterdir()) == [], "looking made something"


def test_a_database_that_is_not_ours(verify, home):
    (home / "greenroom.db").write_bytes(b"")
    assert "cannot be read" in verify(code=2)
    (home / "greenroom.db").write_bytes(b"this is no database at all, though it is long enough to be looked at" * 99)
    assert "cannot be read" in verify(code=2)


def test_what_to_verify_has_to_be_said():
    result = runner.invoke(app, ["verify"])
    assert result.exit_code == 2
    assert "--history" in result.output


def test_a_wrong_setting_is_no_violation(monkeypatch):
    monkeypatch.setenv("GREENROOM_SANDBOX_CPUS", "many")
    assert runner.invoke(app, ["verify", "--history"]).exit_code == 2
