"""A minute of chaos on each database. `make chaos` lets it run for longer, with every kind of fault."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 20261122
SECONDS = 60
FAULTS = {
    "sqlite": ("kill session actor", "two owners", "kill directory actor", "cut model", "kill replica", "kill redis"),
    "postgresql": ("kill session actor", "restart postgresql", "cut database", "kill sandbox actor", "two owners"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", FAULTS)
def test_every_promise_is_kept_while_faults_strike(database: str) -> None:
    out = ROOT / "test-output" / f"chaos-{database}"
    command = (
        *(sys.executable, "-m", "tests.chaos.run", "--seconds", str(SECONDS), "--seed", str(SEED)),
        *("--database", database, "--faults", ",".join(FAULTS[database]), "--clients", "6", "--out", str(out)),
    )
    print(f"seed {SEED}; its logs are in {out}")
    done = subprocess.run(command, cwd=ROOT, timeout=550, check=False, text=True, capture_output=True)
    said = f"{done.stdout}\n{done.stderr}"[-6000:]

    assert done.returncode in (0, 1), said
    report = json.loads((out / "report.json").read_text())
    assert report["violations"] == [], said
    assert report["failures"] == [], said
    assert sum(report["faults"].values()) >= 3, said
    assert report["turns"]["accepted"] >= 40, said
    assert report["turns"]["completed"] >= 20, said
