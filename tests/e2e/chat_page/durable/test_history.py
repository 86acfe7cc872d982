"""A session's past: forked into another session, or trimmed."""

import re
from datetime import UTC, datetime

from playwright.sync_api import Page, expect

from actors.core.errors import SandboxUnavailable


def two_turns(page: Page, send) -> None:
    send("one")
    expect(page.locator(".spent")).to_have_count(1)
    send("two")
    expect(page.locator(".spent")).to_have_count(2)


def test_fork_from_the_first_turn(signed_in: Page, backend, send) -> None:
    two_turns(signed_in, send)
    [origin] = backend.sessions()
    backend.call(backend.sandboxes.write(origin, "notes.txt", b"kept"))
    signed_in.get_by_role("button", name="Fork from here").first.click()
    before = signed_in.locator(".before")
    expect(before.get_by_text("Forked from “one”.")).to_be_visible()
    expect(signed_in.get_by_label("Message", exact=True)).to_be_focused()
    expect(signed_in.locator(".user-text")).to_have_text(["one"])
    expect(signed_in.locator(".ending .spent")).not_to_contain_text("tokens")  # the other session paid for it
    expect(signed_in.locator("#sessions li")).to_have_count(2)
    expect(signed_in.locator("#sessions [aria-current=page]").get_by_label("forked")).to_be_visible()
    send("another two")
    expect(signed_in.locator(".markdown").last).to_have_text("You said: another two")
    assert backend.model.heard[-1] == ["one", "another two"]
    [copy] = set(backend.sessions()) - {origin}
    assert backend.call(backend.sandboxes.read(copy, "notes.txt", max_bytes=10)).data == b"kept"
    before.get_by_role("link", name="“one”").click()
    expect(signed_in.locator(".user-text")).to_have_text(["one", "two"])
    expect(before.get_by_text("Forked")).to_be_hidden()


def test_files_that_cannot_be_copied(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("503")
    two_turns(signed_in, send)

    async def refuse(source: str, target: str) -> None:
        raise SandboxUnavailable("no isolation here")

    backend.sandboxes.copy = refuse
    signed_in.get_by_role("button", name="Fork from here").last.click()
    expect(signed_in.get_by_text("Forked from “one”.")).to_be_visible()
    expect(
        signed_in.get_by_role("alert").filter(has_text="The files of the session could not be copied")
    ).to_be_visible()
    assert len(backend.sessions()) == 2


def test_origin_that_was_deleted(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("404")
    two_turns(signed_in, send)
    [origin] = backend.sessions()
    signed_in.get_by_role("button", name="Fork from here").first.click()
    expect(signed_in.get_by_text("Forked from “one”.")).to_be_visible()
    backend.call(backend.book.delete(origin, "user_admin"))
    signed_in.reload()
    expect(signed_in.get_by_text("Forked from a session that was deleted.")).to_be_visible()


def test_what_was_removed_is_told(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("503")  # the process that had the session in memory is told at its next write
    send("one")
    expect(signed_in.locator(".spent")).to_be_visible()
    assert backend.trim(datetime.now(UTC)) == 1
    send("two")
    expect(signed_in.locator(".markdown").last).to_have_text("You said: two")
    signed_in.reload()
    note = signed_in.get_by_text("Earlier messages were removed under the retention policy: 2 messages, the last of")
    expect(note).to_be_visible()
    expect(signed_in.locator(".user-text")).to_have_text(["two"])
    expect(signed_in.locator("#spent")).to_contain_text("22 tokens")


def test_trimmed_while_the_page_was_away(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("410|ERR_")
    send("one")
    expect(signed_in.locator(".spent")).to_be_visible()
    [session] = backend.sessions()
    signed_in.route("**/events", lambda route: route.abort())
    signed_in.evaluate("stop()")
    backend.say(session, "said elsewhere")
    assert backend.trim(datetime.now(UTC)) == 1
    backend.say(session, "two")
    with signed_in.expect_response(lambda response: response.status == 410):
        signed_in.unroute("**/events")
        signed_in.evaluate("dispatchEvent(new Event('online'))")
    expect(
        signed_in.get_by_text("Earlier messages were removed under the retention policy: 4 messages")
    ).to_be_visible()
    expect(signed_in.locator(".user-text")).to_have_text(["two"])
    send("three")
    expect(signed_in.locator(".markdown")).to_have_text([re.compile("two"), re.compile("three")])
