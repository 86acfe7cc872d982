"""What OPERATIONS.md tells an operator to set and to run is there."""

import re
import subprocess
from pathlib import Path

import pytest

from actors.core import telemetry
from actors.core.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "OPERATIONS.md").read_text()
COMMANDS = re.findall(r"^(greenroom .*)$", TEXT, re.MULTILINE)


def test_settings_are_settings() -> None:
    """Or variables that hold a secret and are named by a setting."""
    secrets = {field.default for name, field in Settings.model_fields.items() if name.endswith("_env")}
    named = {name.lower() for name in re.findall(r"GREENROOM_([A-Z_]+)\b", TEXT) if f"GREENROOM_{name}" not in secrets}
    assert named <= set(Settings.model_fields)
    assert len(named) > 8


def test_metrics_are_metrics() -> None:
    exposed = telemetry.exposition().decode()
    assert all(name in exposed for name in re.findall(r"`(agent_\w+)`", TEXT))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_know_their_options(command: str) -> None:
    words = command.split()
    done = subprocess.run(
        [ROOT / ".venv" / "bin" / "greenroom", words[1], "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"},
    )
    assert all(word in done.stdout for word in words if word.startswith("--"))


def test_make_targets_know_their_variables() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in re.findall(r"^make (.*)$", TEXT, re.MULTILINE):
        target, *variables = line.split()
        subprocess.run(["make", "--dry-run", target, *variables], cwd=ROOT, check=True, capture_output=True, timeout=60)
        assert all(f"$({name.partition('=')[0]})" in makefile for name in variables)
