"""The notebook, executed from top to bottom against a running Greenroom."""

import json
from pathlib import Path

import nbformat
import pytest

from .conftest import ROOT, Newcomer

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
@pytest.mark.timeout(300)
def test_runs(file: Path, newcomer: Newcomer) -> None:
    newcomer.shell(". .venv/bin/activate && (greenroom status || greenroom up --detach)")
    # Executed by a process with the newcomer's environment: the kernel inherits it.
    script = (
        "import nbformat, sys; from nbclient import NotebookClient; "
        f"nb = nbformat.read({str(file)!r}, as_version=4); "
        "NotebookClient(nb, timeout=120, kernel_name='python3').execute(); "
        "sys.stdout.write(nbformat.writes(nb))"
    )
    done = nbformat.reads(newcomer.shell(f'. .venv/bin/activate && python -c "{script}"'), as_version=4)
    text = json.dumps([cell.get("outputs", []) for cell in done.cells])
    assert "832040" in text
    assert "turn.completed" in text
    assert "green" in text
    assert "$0.000000" in text
    assert r"49\n64\n81" in text  # as JSON writes lines
    assert "285" in text
