"""Messages that are sent while a turn runs: they wait, steer it, or interrupt it. And sessions that are paused."""

import pytest
from playwright.sync_api import Locator, Page, expect


@pytest.fixture
def rows(signed_in: Page, backend, send) -> Locator:
    """The messages that wait, above the message box, while a first turn holds at the gate `first`."""
    backend.script(backend.slow("Working on one.", "first"))
    send("one")
    expect(signed_in.locator(".markdown", has_text="Working on one.")).to_be_visible()
    return signed_in.locator("#queue li")


def choose(page: Page, label: str) -> None:
    page.get_by_label("What the message does while the agent works").select_option(label)


def test_waiting_messages_can_be_changed_and_withdrawn(signed_in: Page, backend, send, rows: Locator) -> None:
    for text in ("two", "three", "four"):
        send(text)
    expect(rows.locator(".words")).to_have_text(["two", "three", "four"])
    expect(signed_in.locator(".user-text")).to_have_text(["one"])
    signed_in.get_by_role("button", name="Edit “two”").click()
    editor = signed_in.get_by_label("Change the message")
    expect(editor).to_be_focused()
    editor.fill("forget it")
    signed_in.keyboard.press("Escape")
    expect(signed_in.get_by_role("button", name="Edit “two”")).to_be_focused()
    signed_in.keyboard.press("Enter")
    editor.fill("number two")
    signed_in.keyboard.press("Enter")
    expect(signed_in.get_by_role("button", name="Edit “number two”")).to_be_focused()
    signed_in.get_by_role("button", name="Withdraw “three”").click()
    expect(rows.locator(".words")).to_have_text(["number two", "four"])
    expect(signed_in.get_by_label("Message", exact=True)).to_be_focused()
    signed_in.reload()
    expect(rows.locator(".words")).to_have_text(["number two", "four"])
    backend.release("first")
    expect(signed_in.locator(".user-text")).to_have_text(["one", "number two", "four"])
    expect(signed_in.locator(".markdown").last).to_have_text("You said: four")
    expect(signed_in.locator("#queue")).to_be_hidden()
    assert backend.model.heard[-1] == ["one", "number two", "four"]


def test_words_are_kept_when_the_turn_begins_while_they_are_typed(
    signed_in: Page, backend, send, rows: Locator
) -> None:
    send("two")
    signed_in.get_by_role("button", name="Edit “two”").click()
    signed_in.get_by_label("Change the message").fill("two and a half")
    backend.release("first")
    expect(signed_in.get_by_role("alert").filter(has_text="is being answered already")).to_be_visible()
    expect(signed_in.get_by_label("Message", exact=True)).to_have_value("two and a half")
    expect(signed_in.locator(".user-text")).to_have_text(["one", "two"])


def test_steer(signed_in: Page, backend, send) -> None:
    backend.script([backend.gate("first"), *backend.runs("print(1)", "Let me see.")])
    backend.script(backend.slow("In metres, then.", "second"))
    send("How high?")
    rows = signed_in.locator("#queue li")
    choose(signed_in, "Steer this answer")
    send("in metres")
    send("and after that")
    expect(rows.locator(".words")).to_have_text(["in metres", "and after that"])
    expect(rows.locator(".how")).to_have_text(["steers", ""])
    backend.release("first")
    expect(signed_in.locator(".markdown").last).to_have_text("In metres, then.")
    expect(signed_in.locator(".turn")).to_have_count(1)
    expect(signed_in.locator(".said .user-text")).to_have_text("in metres")
    expect(rows.locator(".words")).to_have_text(["and after that"])
    assert backend.model.heard[-1] == ["How high?", "in metres"]
    backend.release("second")
    expect(signed_in.locator(".markdown").last).to_have_text("You said: and after that")
    for _ in range(2):
        expect(signed_in.locator(".turn")).to_have_count(2)
        expect(signed_in.locator(".turn").first.locator(".user-text")).to_have_text(["How high?", "in metres"])
        signed_in.reload()


def test_interrupt_goes_before_those_that_wait(signed_in: Page, backend, send, rows: Locator) -> None:
    send("two")
    expect(rows).to_have_count(1)
    choose(signed_in, "Interrupt it")
    expect(signed_in.locator("#composer-help")).to_have_text("Enter stops this answer first")
    send("now")
    expect(signed_in.get_by_text("Stopped the model.")).to_be_visible()
    expect(signed_in.locator(".user-text")).to_have_text(["one", "now", "two"])
    expect(signed_in.locator(".markdown").last).to_have_text("You said: two")
    signed_in.reload()
    expect(signed_in.locator(".user-text")).to_have_text(["one", "now", "two"])


def test_pause_and_resume(signed_in: Page, backend, send) -> None:
    backend.script([backend.gate("step"), *backend.runs("print(1)", "Let me see.")])
    send("Look it up")
    listed = signed_in.locator("#sessions li")
    expect(listed.get_by_label("running")).to_be_visible()
    pause = signed_in.get_by_role("button", name="Pause")
    pause.focus()
    signed_in.keyboard.press("Enter")
    resume = signed_in.get_by_role("button", name="Resume")
    expect(resume).to_be_focused()
    expect(signed_in.get_by_text("This session is paused.")).to_be_visible()
    backend.release("step")
    expect(signed_in.get_by_text("Paused; it goes on when you resume the session")).to_be_visible()
    expect(listed).to_contain_text("paused")
    assert backend.sandboxes.runs == []
    send("And then this")
    expect(signed_in.locator("#queue h2")).to_have_text("Waiting until the session is resumed")
    signed_in.reload()
    expect(signed_in.locator("#queue .words")).to_have_text(["And then this"])
    expect(listed).to_contain_text("paused")
    resume.click()
    expect(signed_in.get_by_text("This session is paused.")).to_be_hidden()
    expect(signed_in.locator(".markdown").last).to_have_text("You said: And then this")
    expect(listed).not_to_contain_text("paused")
    assert len(backend.sandboxes.runs) == 1


def test_message_to_a_paused_session_that_does_nothing(signed_in: Page, backend, send) -> None:
    send("one")
    expect(signed_in.locator(".spent")).to_be_visible()
    signed_in.get_by_role("button", name="Pause").click()
    expect(signed_in.get_by_text("This session is paused.")).to_be_visible()
    send("two")
    expect(signed_in.locator("#queue .words")).to_have_text(["two"])
    expect(signed_in.get_by_role("button", name="Withdraw “two”")).to_be_visible()
    expect(signed_in.get_by_role("button", name="Stop")).to_be_hidden()
    signed_in.get_by_role("button", name="Resume").click()
    expect(signed_in.locator(".user-text")).to_have_text(["one", "two"])
