"""`greenroom costs` over a real database: the table, the files, and what it says when it cannot."""

import asyncio
import csv
import json
from datetime import timedelta
from decimal import Decimal

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from actors.core.clock import SystemClock
from actors.core.messages import Usage
from actors.ledger.book import AttemptClosed, AttemptOpened, record
from actors.store.database import Database
from actors.store.migrate import upgrade
from cluster.cli import app
from cluster.cost_table import bar

runner = CliRunner(env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Calls of two users: known, unknown, and long ago."""
    home = tmp_path_factory.mktemp("home")
    url = f"sqlite:///{home / 'greenroom.db'}"
    upgrade(url)
    now = SystemClock().now()
    calls = [("user_1", "large", "0.5", 0), ("user_1", "small", "0.1", 3), ("user_2", "[red]", None, 0)]
    entries = []
    for at, (user, model, cost, days) in enumerate([*calls, ("user_1", "old", "9", 90)]):
        moment = now - timedelta(days=days)
        known = None if cost is None else Decimal(cost)
        entries.append(AttemptOpened(f"att_{at}", f"turn_{at}", "sess_1", user, model, moment))
        entries.append(AttemptClosed(f"att_{at}", "ok", moment, usage=Usage(1000, 10), cost_usd=known))
    database = Database(url, pool=1, connect_s=5, statement_s=10)
    asyncio.run(database.write(lambda connection: record(connection, entries)))
    database.close()
    return home


@pytest.fixture
def costs(home):
    def costs(*options, code=0):
        result = runner.invoke(app, ["costs", "--home", str(home), *map(str, options)])
        assert result.exit_code == code, result.output
        return result.output

    return costs


def test_the_table_and_the_chart(costs):
    said = costs()
    assert "Costs of all users" in said
    assert "≥ $0.600000 for 3 model calls" in said
    assert "the cost of 1 is not known" in said
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.split()}
    assert lines["large"][:4] == ["large", "$0.500000", "83", "%"]
    assert lines["[red]"][1:3] == ["not", "known"]
    assert said.count("█" * 40) == 1
    assert "old" not in said
    assert "old" in costs("--period", "monthly")


def test_one_user_with_budgets(costs):
    said = costs("--user", "user_2", "--group-by", "session")
    assert "user, hour" in said
    assert "$50.00" in said
    assert "sess_1" in said


def test_json_is_what_the_api_answers(costs):
    found = json.loads(costs("--json", "--group-by", "user", "--since", "1d"))
    assert (found["object"], found["everyone"], found["totals"]["calls"]) == ("cost_report", True, 2)
    assert [row["group"] for row in found["data"]] == ["user_1", "user_2"]
    assert len(found["series"]) == 2


def test_files(costs, tmp_path):
    said = costs("--csv", tmp_path / "costs.csv", "--parquet", tmp_path / "costs.parquet")
    assert "3 lines" in said
    rows = list(csv.DictReader((tmp_path / "costs.csv").open()))
    table = pyarrow.parquet.read_table(tmp_path / "costs.parquet")
    assert [row["model"] for row in rows] == table.column("model").to_pylist() == ["small", "large", "[red]"]
    assert costs("--csv", "-").splitlines()[0].startswith("period_start,")


def test_what_cannot_be_done_is_said(costs, tmp_path):
    assert "no age such as 7d" in costs("--since", "soon", code=2)
    assert "400 periods at most" in costs("--since", "2001-01-01", code=2)
    assert "cannot be written" in costs("--csv", tmp_path / "nowhere" / "costs.csv", code=2)
    assert "name a file" in costs("--parquet", "-", code=2)
    nothing = runner.invoke(app, ["costs", "--home", str(tmp_path)])
    assert (nothing.exit_code, "There is no database" in nothing.output) == (2, True)
    assert not (tmp_path / "greenroom.db").exists()


def test_nothing_spent_is_no_table(costs):
    assert "Nothing was used" in costs("--user", "nobody")


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(0, 9, ""), (1, 10**9, "▏"), (9, 9, "████"), (20, 9, "████"), (1, 8, "▌"), (0, 0, "")]
)
def test_bars(part, whole, shown):
    assert bar(part, whole, 4) == shown
