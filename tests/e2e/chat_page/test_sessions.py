"""The list of sessions and the one that is open."""

import re

from playwright.sync_api import Page, expect


def test_list_is_newest_first_and_loads_more(page: Page, backend) -> None:
    for number in range(45):
        backend.add_session(f"Session {number:02}")
    page.goto("/#key=grk_right")
    titles = page.locator("#sessions .title")
    expect(titles).to_have_count(20)
    expect(titles.first).to_have_text("Session 44")
    expect(page.locator("#sessions time").first).to_have_text("just now")
    page.get_by_role("button", name="Load more").click()
    expect(titles).to_have_count(40)
    page.get_by_role("button", name="Load more").click()
    expect(titles).to_have_text([f"Session {number:02}" for number in reversed(range(45))])
    expect(page.get_by_role("button", name="Load more")).to_be_hidden()


def test_first_message_makes_a_session_that_a_reload_keeps(signed_in: Page, backend, send) -> None:
    expect(signed_in.get_by_text("Your sessions will be listed here.")).to_be_visible()
    send("Name me")
    expect(signed_in.locator(".markdown", has_text="You said: Name me")).to_be_visible()
    expect(signed_in).to_have_url(re.compile(f"#session={next(iter(backend.sessions))}$"))
    expect(signed_in.get_by_role("heading", level=1)).to_have_text("Name me")
    expect(signed_in.locator("#sessions [aria-current=page]")).to_contain_text("Name me")
    expect(signed_in).to_have_title("Name me · Greenroom")
    signed_in.reload()
    expect(signed_in.locator(".markdown")).to_have_text("You said: Name me")
    expect(signed_in.locator(".user-text")).to_have_text("Name me")
    expect(signed_in.locator("#spent")).to_contain_text("1,000 tokens · $0.0015")


def test_back_returns_to_the_session_before(signed_in: Page, send) -> None:
    send("first")
    expect(signed_in.locator(".markdown", has_text="You said: first")).to_be_visible()
    signed_in.get_by_role("button", name="New session").click()
    expect(signed_in.get_by_role("heading", name="What would you like to do?")).to_be_visible()
    expect(signed_in.locator(".turn")).to_have_count(0)
    signed_in.go_back()
    expect(signed_in.locator(".markdown", has_text="You said: first")).to_be_visible()


def test_delete_asks_first(signed_in: Page, backend, send) -> None:
    send("Delete me")
    expect(signed_in.locator(".markdown", has_text="You said: Delete me")).to_be_visible()
    delete = signed_in.get_by_role("button", name="Delete Delete me")
    dialog = signed_in.get_by_role("dialog")
    delete.click()
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_be_hidden()
    assert len(backend.sessions) == 1
    delete.click()
    signed_in.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert len(backend.sessions) == 1
    delete.click()
    dialog.get_by_role("button", name="Delete").click()
    expect(signed_in.get_by_role("heading", name="What would you like to do?")).to_be_visible()
    expect(signed_in.locator("#sessions li")).to_have_count(0)
    assert backend.sessions == {}
    assert "session=" not in signed_in.url


def test_session_that_does_not_exist(page: Page, allowed_errors) -> None:
    allowed_errors.append("404")
    page.goto("/#key=grk_right&session=sess_gone")
    expect(page.get_by_text("This session does not exist, or it was deleted.")).to_be_visible()
    page.get_by_role("link", name="Start a new session").click()
    expect(page.get_by_role("heading", name="What would you like to do?")).to_be_visible()


def test_example_prompts_are_sent(signed_in: Page) -> None:
    signed_in.get_by_role("button", name="List the files in your workspace").click()
    expect(signed_in.locator(".markdown", has_text="You said: List the files in your workspace")).to_be_visible()


def test_switching_leaves_nothing_of_the_other_session(signed_in: Page, backend, send) -> None:
    backend.script(backend.text("Slow one"), backend.hold("slow"), backend.text(" ended"))
    send("slow")
    expect(signed_in.locator(".markdown", has_text="Slow one")).to_be_visible()
    signed_in.get_by_role("button", name="New session").click()
    send("quick")
    expect(signed_in.locator(".markdown", has_text="You said: quick")).to_be_visible()
    backend.release("slow")
    expect(signed_in.locator(".turn")).to_have_count(1)
    signed_in.keyboard.press("Alt+ArrowDown")
    expect(signed_in.locator(".markdown")).to_have_text("Slow one ended")
