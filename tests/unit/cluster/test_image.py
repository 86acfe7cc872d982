"""What the image says, held to what the code says: its environment, what it is made of, and who runs it."""

import re
import shlex
from pathlib import Path

import pytest

from actors.core.settings import Settings
from cluster import environment

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Each instruction and its arguments, continued lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines()
    return [(word, rest.strip()) for line in lines if line for word, _, rest in [line.partition(" ")]]


@pytest.fixture(scope="module")
def variables(instructions) -> dict[str, str]:
    words = [word for instruction, rest in instructions if instruction == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def test_ray_and_serve_start_as_on_one_machine(variables):
    expected = environment.machine_environment(Path("/opt/greenroom/bin"))
    assert expected.items() <= variables.items()
    assert environment.FAULT_DETECTION.items() <= expected.items()
    mentioned = {name for name in variables if name.startswith("RAY_")}
    assert mentioned <= expected.keys()


def test_one_machine_starts_with_the_same(home, monkeypatch):
    monkeypatch.setattr(environment, "free_ports", lambda count: list(range(40_000, 40_000 + count)))
    one = environment.run_environment(Settings(home=home), run_id="a", run_dir=Path("/tmp/x"), ray_token_file=home)
    many = environment.machine_environment(home)
    assert many.items() <= one.items()


def test_settings_are_settings(variables):
    named = {name.removeprefix("GREENROOM_").lower() for name in variables if name.startswith("GREENROOM_")}
    assert named == {"home", "host"}
    assert named <= set(Settings.model_fields)


def test_nothing_makes_ray_slow(variables):
    assert "PYTHONDONTWRITEBYTECODE" not in variables
    assert TEXT.count("--compile ") == 2


def test_it_runs_as_an_ordinary_user_and_says_how_it_feels(instructions):
    words = [word for word, _ in instructions]
    assert dict(instructions)["USER"] == "greenroom"
    assert words.index("USER") > max(index for index, word in enumerate(words) if word == "RUN")
    assert "/ready" in dict(instructions)["HEALTHCHECK"]


def test_what_is_installed_is_locked_and_no_index_is_named(instructions):
    installs = [rest for word, rest in instructions if word == "RUN" and "requirements.lock" in rest]
    assert len(installs) == 1
    assert "--require-hashes --no-deps" in installs[0]
    assert not re.search(r"https?://(?!127\.0\.0\.1)|index-url|find-links|trusted-host", TEXT)


def test_the_base_is_an_argument_and_every_image_has_a_version(instructions):
    assert dict(instructions)["ARG"] == "BASE=python:3.11-slim-bookworm"
    assert {rest.split()[0] for word, rest in instructions if word == "FROM"} == {"${BASE}"}


def test_no_secret_and_no_test_gets_into_the_image():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    packages = {"actors", "cluster", "serve_app"}
    assert let_in == packages | {"pyproject.toml", "requirements.lock", "README.md", "LICENSE"}
    assert "cluster/compose/secrets" in lines
    assert "cluster/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
