"""Keys: from the address bar, from the form, remembered, refused, forgotten."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

RIGHT = "grk_right"


def test_key_in_the_fragment_signs_in_and_leaves_the_address_bar(signed_in: Page, backend) -> None:
    assert "grk_" not in signed_in.url
    assert signed_in.evaluate("localStorage.getItem('greenroom.key')") == RIGHT
    assert not any("grk_" in path for _, path, _ in backend.requests)
    signed_in.reload()
    expect(signed_in.get_by_role("heading", name="What would you like to do?")).to_be_visible()


def test_key_goes_before_the_server_answers(page: Page, allowed_errors) -> None:
    allowed_errors.append("ERR_FAILED")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/v1/**", hold)
    page.goto(f"/#key={RIGHT}&session=sess_x")
    page.wait_for_function("location.hash === '#session=sess_x'")
    for route in held:
        route.abort()


def test_form_is_shown_without_a_key(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(RIGHT)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What would you like to do?")).to_be_visible()


@pytest.mark.parametrize("by_form", [True, False])
def test_wrong_key_leads_to_the_form_with_the_reason(page: Page, allowed_errors, by_form: bool) -> None:
    allowed_errors.append("401")
    page.goto("/" if by_form else "/#key=grk_wrong")
    if by_form:
        page.get_by_label("API key").fill("grk_wrong")
        page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="That API key is not known here.")).to_be_visible()
    expect(page.get_by_label("API key")).to_be_focused()
    assert page.evaluate("localStorage.getItem('greenroom.key')") is None


def test_key_that_was_revoked_leads_back_to_the_form_and_the_session_stays_open(
    signed_in: Page, backend, send, allowed_errors
) -> None:
    allowed_errors.append("401")
    send("hello")
    expect(signed_in.locator(".markdown", has_text="You said: hello")).to_be_visible()
    session = signed_in.url
    backend.key = "grk_other"
    send("again")
    expect(signed_in.get_by_text("That API key is not known here.")).to_be_visible()
    backend.key = RIGHT
    signed_in.get_by_label("API key").fill(RIGHT)
    signed_in.keyboard.press("Enter")
    expect(signed_in.locator(".markdown", has_text="You said: hello")).to_be_visible()
    assert signed_in.url == session


def test_sign_out_forgets_the_key_in_every_tab(signed_in: Page) -> None:
    other = signed_in.context.new_page()
    other.goto("/")
    expect(other.get_by_label("Message", exact=True)).to_be_visible()
    signed_in.get_by_role("button", name="Sign out").click()
    expect(signed_in.get_by_label("API key")).to_be_visible()
    expect(other.get_by_label("API key")).to_be_visible()
    assert signed_in.evaluate("localStorage.getItem('greenroom.key')") is None
    expect(signed_in).to_have_url(re.compile(r"/$"))
