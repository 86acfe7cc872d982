"""The files of a session on the page: listed, uploaded by button and by drop, saved, deleted when that is confirmed."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect


@pytest.fixture
def dialog(signed_in: Page, send) -> Locator:
    """The dialog, opened by keyboard, of a session whose workspace is empty."""
    expect(signed_in.get_by_role("button", name="Files", exact=True)).to_be_hidden()
    send("Hello")
    expect(signed_in.locator(".markdown")).to_have_text("You said: Hello")
    button = signed_in.get_by_role("button", name="Files", exact=True)
    button.focus()
    signed_in.keyboard.press("Enter")
    opened = signed_in.get_by_role("dialog", name="Files of this session")
    expect(opened.get_by_role("status")).to_have_text("No files yet.")
    return opened


def upload(dialog: Locator, name: str, content: bytes) -> None:
    chosen = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    dialog.locator("input[type=file]").set_input_files(chosen)
    expect(dialog.get_by_role("status")).to_have_text(f"Uploaded “{name}”.")


def test_a_file_is_uploaded_saved_and_deleted(signed_in: Page, backend, dialog: Locator) -> None:
    (session,) = backend.sessions()
    upload(dialog, "ä #1?.bin", bytes(range(256)))
    expect(dialog.get_by_role("listitem")).to_have_text(["ä #1?.bin256 bytes"])
    assert backend.call(backend.sandboxes.read(session, "ä #1?.bin", max_bytes=300)).data == bytes(range(256))

    with signed_in.expect_download() as saving:
        dialog.get_by_role("button", name="Download “ä #1?.bin”").click()
    assert Path(saving.value.path()).read_bytes() == bytes(range(256))

    delete = dialog.get_by_role("button", name="Delete “ä #1?.bin”")
    delete.focus()
    signed_in.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    signed_in.keyboard.press("Enter")
    expect(delete).to_be_focused()
    delete.click()
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(dialog.get_by_role("listitem")).to_have_count(0)
    assert backend.call(backend.sandboxes.list(session)) == ()
    signed_in.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_file_is_dropped(signed_in: Page, dialog: Locator) -> None:
    data = signed_in.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(new File(['dropped'], 'd.txt')); return data; }"
    )
    dialog.dispatch_event("drop", {"dataTransfer": data})
    expect(dialog.get_by_role("listitem")).to_have_text(["d.txt7 bytes"])


def test_what_the_policy_refuses_is_said(dialog: Locator, allowed_errors) -> None:
    allowed_errors.append("403")
    chosen = {"name": ".env", "mimeType": "text/plain", "buffer": b"SECRET=1"}
    dialog.locator("input[type=file]").set_input_files(chosen)
    expect(dialog.get_by_role("status")).to_contain_text("“.env” was not uploaded. The policy does not allow this")
    expect(dialog.get_by_role("listitem")).to_have_count(0)


def test_names_are_shown_as_text_and_fit_a_narrow_window(signed_in: Page, backend, dialog: Locator) -> None:
    (session,) = backend.sessions()
    name = "<img src=x onerror=alert(1)>" + "x" * 150
    backend.call(backend.sandboxes.write(session, name, b"x"))
    signed_in.set_viewport_size({"width": 320, "height": 600})
    upload(dialog, "a.txt", b"x")
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    expect(dialog.get_by_role("listitem").first).to_contain_text(name)
    expect(dialog.locator("img")).to_have_count(0)
    assert signed_in.evaluate(
        "document.querySelector('#files').scrollWidth <= document.querySelector('#files').clientWidth"
    )
