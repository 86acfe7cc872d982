"""The page of costs over real rows: what it shows, by keyboard and as tables, its exports, its width and contrast."""

import csv
import io
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from actors.core.clock import SystemClock
from actors.core.messages import Usage
from actors.ledger.book import AttemptClosed, AttemptOpened, record
from actors.testing import says

from ..test_look import LOW_CONTRAST


def spend(backend: Any, *rows: tuple[str, str, str, str | None, int]) -> None:
    """Rows of calls: whose, in which session, of which model, what it cost, days ago."""
    entries: list[Any] = []
    for at, (user, session, model, cost, days) in enumerate(rows):
        moment = SystemClock().now() - timedelta(days=days)
        known = None if cost is None else Decimal(cost)
        entries.append(AttemptOpened(f"att_seed_{at}", f"turn_seed_{at}", session, user, model, moment))
        usage = Usage(1000 * (at + 1), 50, 200)
        entries.append(AttemptClosed(f"att_seed_{at}", "ok", moment, usage=usage, cost_usd=known))
    backend.call(backend.book._database.write(lambda connection: record(connection, entries)))


@pytest.fixture
def report(signed_in: Page, backend: Any, send: Any) -> Page:
    """Costs of two users and three models, reached from the chat page."""
    backend.script(backend.runs("print(1)"), says("Done."))
    send("Run it")
    expect(signed_in.locator(".markdown").last).to_have_text("Done.")
    spend(
        backend,
        ("user_admin", "sess_a", "large", "0.75", 0),
        ("user_admin", "sess_a", "small", "0.25", 1),
        ("user_admin", "sess_b", "small", None, 3),
        ("user_other", "sess_c", "large", "8", 2),
    )
    signed_in.get_by_role("link", name="Costs").click()
    expect(signed_in.get_by_role("heading", name="Costs", exact=True)).to_be_visible()
    return signed_in


def test_what_was_spent_is_shown_read_and_saved(report: Page) -> None:
    expect(report.locator("#total")).to_have_text("at least $1.00")
    expect(report.locator("#unknown")).to_contain_text("The cost of 1 of 6 calls is not known")
    expect(report.get_by_role("meter")).to_have_count(3)
    expect(report.locator("#gauges")).to_contain_text("of $50.00")
    sessions = report.get_by_role("table", name="Cost by session")
    expect(sessions.get_by_role("row").nth(1)).to_contain_text("sess_a")
    expect(report.get_by_role("table", name="Use of tools")).to_contain_text("run_python")

    # The chart by keyboard: the last day, then the one before; and the same as a table.
    chart = report.get_by_role("group", name="Cost by model")
    chart.focus()
    report.keyboard.press("ArrowLeft")
    expect(report.locator("#over-time .said")).to_contain_text("large $0.75")
    report.keyboard.press("ArrowLeft")
    expect(report.locator("#over-time .said")).to_contain_text(": $0.25")
    report.locator("#over-time summary").click()
    expect(report.get_by_role("table", name="Cost by model").get_by_role("row")).to_have_count(4)

    report.get_by_text("Weekly").click()
    expect(report.get_by_role("table", name="Cost by model")).to_have_count(0)
    with report.expect_download() as saving:
        report.get_by_role("button", name="Costs by session as CSV").click()
    assert saving.value.suggested_filename == "greenroom-costs-session-weekly.csv"
    rows = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    assert sum(int(row["cost_micros"]) for row in rows) == 1_000_020
    assert {"sess_a", "sess_b"} < {row["session"] for row in rows}


def test_an_operator_sees_all_users(report: Page) -> None:
    expect(report.get_by_role("table", name="Cost by user")).to_contain_text("user_other")
    report.get_by_label("All users").check()
    expect(report.locator("#total")).to_have_text("at least $9.00")
    expect(report.locator("#budgets")).to_be_hidden()
    report.get_by_label("All users").uncheck()
    expect(report.locator("#total")).to_have_text("at least $1.00")


def test_it_fits_and_can_be_read(report: Page) -> None:
    expect(report.locator("#over-time svg rect").first).to_be_visible()
    report.locator("details").evaluate_all("all => all.forEach(details => { details.open = true })")
    for scheme in ("light", "dark"):
        report.emulate_media(color_scheme=scheme)
        assert report.evaluate(LOW_CONTRAST) == []
    report.set_viewport_size({"width": 320, "height": 640})
    report.wait_for_function("document.querySelector('#over-time svg').getBoundingClientRect().right <= innerWidth")
    assert report.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_signing_in_on_the_page_itself(page: Page, backend: Any, allowed_errors: list[str]) -> None:
    allowed_errors.append("401")
    page.goto("/costs")
    page.get_by_label("API key").fill("grk_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="key")).to_be_visible()
    page.get_by_label("API key").fill(backend.key)
    page.keyboard.press("Enter")
    expect(page.locator("#over-time")).to_have_text("Nothing in this time.")
