"""The README as a newcomer follows it, top to bottom: every command in it is run here."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from .conftest import ROOT, Newcomer

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, re.DOTALL)
SH = [text for language, text in BLOCKS if language == "sh"]
PYTHON = [text for language, text in BLOCKS if language == "python"]


def test_blocks_are_the_ones_tested_here() -> None:
    """A new block needs a test: this one fails until it has it."""
    assert len(SH) == 6
    assert len(PYTHON) == 1


@pytest.fixture(scope="module")
def first_session(newcomer: Newcomer) -> str:
    """`make up`, a computation, Ctrl-C: the id of the session, whose Greenroom is stopped now."""
    with newcomer.make_up():
        answer = newcomer.say("Compute the 50th Fibonacci number in Python")
    assert "12586269025" in answer["message"].replace(",", "")
    assert [call["name"] for call in answer["tool_calls"]] == ["run_python"]
    assert answer["tool_calls"][0]["error"] is None
    return answer["session_id"]


def test_make_targets_exist() -> None:
    for target in re.findall(r"^make (\w+)", README + (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


@pytest.mark.timeout(400)
def test_session_goes_on_after_a_restart(first_session: str, newcomer: Newcomer) -> None:
    assert "6765" in newcomer.shell(SH[1]).replace(",", "")
    answer = newcomer.say("What did I ask before?", first_session)
    assert answer["session_id"] == first_session
    assert "50th Fibonacci" in answer["message"]


def test_curl(newcomer: Newcomer) -> None:
    answer = json.loads(newcomer.shell(SH[2]))
    assert str(2**100) in answer["message"].replace(",", "")
    assert "event: turn.completed" in newcomer.shell(SH[2].splitlines()[0] + "\n" + SH[3])


def test_a_repeated_request_runs_once(newcomer: Newcomer) -> None:
    block = SH[2].splitlines()[0] + "\n. .venv/bin/activate\n" + SH[4]
    first, second = newcomer.shell(block), newcomer.shell(block)
    # What curl prints ends without a new line.
    answer, again = (json.JSONDecoder().raw_decode(output)[0] for output in (first, second))
    assert str(3**40) in answer["message"].replace(",", "")
    assert again == answer
    assert "Every promise was kept" in second


def test_working_in_a_sandbox(newcomer: Newcomer) -> None:
    newcomer.say("Hello")
    output = newcomer.shell(SH[2].splitlines()[0] + "\n" + SH[5])
    decoder, found = json.JSONDecoder(), []
    while output.startswith("{"):
        answer, end = decoder.raw_decode(output)
        found.append(answer)
        output = output[end:]
    ran, listed = found
    assert (ran["verdict"], ran["output"]) == ("ok", "2 notes/list.txt\n")
    assert [entry["path"] for entry in listed["data"]] == ["notes", "notes/list.txt"]
    assert output == "one\ntwo\n"


def test_python(newcomer: Newcomer, tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text(newcomer.mine(PYTHON[0]))
    output = newcomer.shell(f". .venv/bin/activate && python {script}")
    assert "turn.completed" in output
    assert "hello.txt" in output


def test_docs_page_is_served(newcomer: Newcomer) -> None:
    assert httpx.get(f"{newcomer.url}/docs").status_code == 200


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
