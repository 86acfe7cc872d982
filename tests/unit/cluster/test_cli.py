"""The command line teaches: every command has help, answers fast, and says what is wrong in one line."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cluster.cli import app

COMMANDS = (
    "up",
    "down",
    "status",
    "doctor",
    "chat",
    "verify",
    "drain-node",
    "deploy",
    "sandbox",
    "env",
    "model-server",
)
runner = CliRunner()


def test_help_lists_every_command():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 8


def test_help_loads_nothing_heavy():
    program = (
        "import sys, cluster.cli; "
        "heavy = {'ray', 'httpx', 'sqlalchemy', 'prompt_toolkit', 'pydantic', 'fastapi', 'docker'}; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status"], 3, "does not run"),
        (["down"], 0, "Nothing runs"),
        (["env"], 3, "greenroom up"),
        (["chat", "-m", "hi"], 1, "greenroom up"),
    ],
)
def test_without_a_run(home, arguments, code, said):
    result = runner.invoke(app, [*arguments, "--home", str(home)])
    assert result.exit_code == code
    assert said in result.output


def test_a_wrong_setting_is_one_line(monkeypatch):
    monkeypatch.setenv("GREENROOM_SANDBOX_CPUS", "many")
    result = runner.invoke(app, ["status"])
    assert result.exit_code == 1
    assert "GREENROOM_SANDBOX_CPUS" in result.output
    assert "Traceback" not in result.output


def test_env_is_for_a_shell(home, make_state):
    from cluster import run_state

    run_state.write(home, make_state())
    result = runner.invoke(app, ["env", "--home", str(home)])
    assert result.exit_code == 0
    assert "export RAY_AUTH_MODE=token" in result.output.splitlines()
    assert "export RAY_ADDRESS='[::ffff:127.0.0.1]:6379'" in result.output.splitlines()
