"""What lies in the repository, by name."""

import fnmatch
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "serve_app", "cluster")

ALLOWED_AT_THE_ROOT = {
    *PACKAGES,
    "tests",
    "notebooks",
    ".ci",
    ".github",
    ".gitignore",
    ".dockerignore",
    ".env.example",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "OPERATIONS.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
    "requirements.lock",
    "requirements-dev.lock",
}

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def _ignored() -> list[str]:
    patterns = (ROOT / ".gitignore").read_text().split()
    return [".git", *(pattern.rstrip("/") for pattern in patterns)]


def _sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def test_the_root_holds_what_people_expect_and_no_more() -> None:
    ignored = _ignored()
    found = {
        path.name for path in ROOT.iterdir() if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert found <= ALLOWED_AT_THE_ROOT


def test_no_file_is_a_drawer() -> None:
    found = [path for path in _sources(*PACKAGES, "tests") if path.stem in FORBIDDEN_NAMES]
    folders = [path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*") if path.is_dir()]
    assert found == []
    assert [path for path in folders if path.name in FORBIDDEN_NAMES] == []


def test_only_the_settings_read_the_environment() -> None:
    """Ruff forbids it too; this holds where somebody silences ruff, and for names that ruff does not follow."""
    inside = ROOT / "actors" / "sandbox" / "inside"  # runs in the sandbox, where there are no settings
    guilty = [path for path in _sources(*PACKAGES) if inside not in path.parents and _reads_the_environment(path)]
    assert guilty == [ROOT / "actors" / "core" / "settings.py"]


def _reads_the_environment(path: Path) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return any(token.type == tokenize.NAME and token.string in names for token in tokens)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_pin_by_hash_and_name_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host|https?://", text)
    requirements = [line for line in text.splitlines() if re.match(r"^[A-Za-z0-9]", line)]
    assert requirements
    for line in requirements:
        assert re.match(r"^[A-Za-z0-9._-]+(\[[\w,-]+\])?==[^ ]+( ;.*)? \\$", line), f"not pinned with a hash: {line}"


def test_nothing_names_a_path_of_somebodys_machine_or_an_index() -> None:
    pattern = re.compile(r"(?<!\w)/(root|home/\w+|Users/\w+)/\S|--index-url|/simple/?\s*$")
    guilty: list[str] = []
    for path in _texts():
        lines = path.read_text().splitlines()
        guilty += [f"{path.relative_to(ROOT)}: {line}" for line in lines if pattern.search(line)]
    assert guilty == []


def _texts() -> Iterator[Path]:
    kinds = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".js", ".css", ".html", ""}
    for name in sorted(ALLOWED_AT_THE_ROOT):
        top = ROOT / name
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts and path != Path(__file__):
                yield path


def test_tests_are_no_package() -> None:
    """With import-mode=importlib a package would only make two names for one module."""
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    pattern = re.compile(r"pytest\.mark\.(skip|skipif|xfail)|pytest\.(skip|xfail|importorskip)\(")
    guilty = [path for path in _sources("tests") if path != Path(__file__) and pattern.search(path.read_text())]
    assert guilty == []
