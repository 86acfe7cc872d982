"""The page of a cluster that `greenroom up` started: the demo model, tools in a real sandbox, all between."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cluster.ports import free_ports

COMMAND = Path(sys.executable).with_name("greenroom")
UP_S = 170
ANSWER_MS = 30_000


@dataclass(frozen=True)
class Cluster:
    url: str
    key: str


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for the module."""
    home = tmp_path_factory.mktemp("page") / "home"
    # Of the caller's environment no model server and no other cluster gets in.
    kept = {k: v for k, v in os.environ.items() if not re.match(r"GREENROOM_|RAY_|OPENROUTER_", k)}
    environment = {**kept, "GREENROOM_HOME": str(home)}
    port = free_ports(1)[0]

    def greenroom(*arguments: str) -> None:
        done = subprocess.run(
            [COMMAND, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=UP_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    greenroom("up", "--detach", "--no-dashboard", "--port", str(port))
    try:
        yield Cluster(f"http://127.0.0.1:{port}", (home / "admin.key").read_text().strip())
    finally:
        greenroom("down")


@pytest.mark.timeout(UP_S + 100)
def test_journey(page: Page, backend: Cluster, send) -> None:
    answers = page.locator(".turn .markdown")
    page.goto(f"/#key={backend.key}")
    page.get_by_label("Ask me before running code").check()
    send("Compute 2**100 in Python")
    card = page.get_by_role("region", name="Approval of run_python")
    expect(card).to_contain_text("2**100", timeout=ANSWER_MS)
    expect(page.locator("#sessions li")).to_contain_text("waits for you")
    send("Write hello to notes.txt")
    send("Read notes.txt")
    expect(page.locator("#queue .words")).to_have_text(["Write hello to notes.txt", "Read notes.txt"])
    page.get_by_role("button", name="Withdraw “Read notes.txt”").click()
    expect(page.locator("#queue li")).to_have_count(1)
    card.get_by_role("button", name="Approve").click()
    expect(card).to_have_text("Approved by you")
    expect(answers.filter(has_text="1267650600228229401496703205376")).to_be_visible(timeout=ANSWER_MS)
    expect(page.locator(".spent")).to_have_count(2, timeout=ANSWER_MS)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("This session is paused.")).to_be_visible()
    page.get_by_role("button", name="Fork from here").last.click()
    expect(page.get_by_text("Forked from “Compute 2**100 in Python”.")).to_be_visible()
    expect(page.get_by_text("This session is paused.")).to_be_hidden()
    send("Read notes.txt")
    expect(answers.last).to_contain_text("hello", timeout=ANSWER_MS)
    page.get_by_role("link", name="“Compute 2**100 in Python”").click()
    expect(page.get_by_text("This session is paused.")).to_be_visible()
    expect(page.locator(".user-text")).to_have_text(["Compute 2**100 in Python", "Write hello to notes.txt"])
