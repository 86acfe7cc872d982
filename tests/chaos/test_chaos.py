"""A minute of chaos on each database. `make chaos` lets it run for longer, with every kind of fault."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 20261122
SECONDS = 60
LIMIT_S, END_S = 540, 90
FAULTS = {
    "sqlite": ("kill session actor", "two owners", "kill directory actor", "cut model", "kill replica", "kill redis"),
    "postgresql": ("kill session actor", "restart postgresql", "cut database", "kill sandbox actor", "two owners"),
}


@pytest.mark.timeout(660)
@pytest.mark.parametrize("database", FAULTS)
def test_every_promise_is_kept_while_faults_strike(database: str) -> None:
    out = ROOT / "test-output" / f"chaos-{database}"
    print(f"seed {SEED}; its logs are in {out}")
    code, said = run(
        *("--seconds", str(SECONDS), "--seed", str(SEED), "--database", database, "--clients", "6"),
        *("--faults", ",".join(FAULTS[database]), "--out", str(out)),
    )

    assert code in (0, 1), said
    report = json.loads((out / "report.json").read_text())
    assert report["violations"] == [], said
    assert report["failures"] == [], said
    assert sum(report["faults"].values()) >= 3, said
    assert report["turns"]["accepted"] >= 40, said
    assert report["turns"]["completed"] >= 20, said


def run(*arguments: str) -> tuple[int, str]:
    """The exit code, and the end of what was printed."""
    command = (sys.executable, "-m", "tests.chaos.run", *arguments)
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        except BaseException:
            process.terminate()  # not killed: it ends everything that it has started
            process.wait(END_S)
            raise
    return process.returncode, said[-6000:]
