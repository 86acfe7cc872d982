"""Messages whose answer is lost: sent again under the same key, until they have arrived once."""

import itertools
import json
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import Page, Route, expect

CHAT = "**/api/v1/chat"


@pytest.fixture
def keys(page: Page) -> list[str]:
    """The keys of all messages that the page sends."""
    seen: list[str] = []
    page.on("request", lambda r: seen.append(r.headers["idempotency-key"]) if r.url.endswith("/chat") else None)
    return seen


@pytest.fixture
def second(signed_in: Page) -> Callable[[Callable[[Route], object]], Callable[[], None]]:
    """Does something with the first message that is sent, and holds others until what it returns is called."""

    def arrange(first: Callable[[Route], object]) -> Callable[[], None]:
        seen, held = itertools.count(), []
        released = False

        def handle(route: Route) -> None:
            if next(seen) == 0:
                first(route)
            elif released:
                route.continue_()
            else:
                held.append(route)

        def release() -> None:
            nonlocal released
            released = True
            for route in held:
                route.continue_()

        signed_in.route(CHAT, handle)
        return release

    return arrange


def lose_answer(route: Route) -> None:
    route.fetch()
    route.abort()


def unavailable(route: Route) -> None:
    body = {"title": "Unavailable", "status": 503, "detail": "not now", "code": "unavailable", "retryable": True}
    route.fulfill(status=503, body=json.dumps(body), content_type="application/problem+json")


def test_first_message_whose_answer_is_lost_opens_one_session(
    signed_in: Page, backend, send, keys, second, allowed_errors
) -> None:
    allowed_errors.append("ERR_FAILED")
    release = second(lose_answer)
    send("Only once")
    expect(signed_in.get_by_text("No answer yet. Sending it again (2 of 6); it cannot arrive twice.")).to_be_visible()
    with signed_in.expect_response(CHAT) as answer:
        release()
    assert answer.value.headers["idempotency-replayed"] == "true"
    expect(signed_in.locator(".markdown")).to_have_text("You said: Only once")
    expect(signed_in.locator(".user-text")).to_have_text(["Only once"])
    [session] = backend.sessions()
    assert backend.said(session) == ["Only once"]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_server_that_cannot_now_is_asked_again_and_others_wait_behind(
    signed_in: Page, backend, send, keys, second, allowed_errors
) -> None:
    allowed_errors.append("503")
    release = second(unavailable)
    send("one")
    send("two")
    expect(signed_in.get_by_text("Sending it again (2 of 6)")).to_be_visible()
    expect(signed_in.locator("#queue .words")).to_have_text(["two"])
    with signed_in.expect_response(CHAT):
        release()
    expect(signed_in.locator(".markdown")).to_have_text(["You said: one", "You said: two"])
    assert backend.said(backend.sessions()[0]) == ["one", "two"]
    assert [key == keys[0] for key in keys] == [True, True, False]


def test_offline(signed_in: Page, backend, send, keys, allowed_errors) -> None:
    allowed_errors.append("ERR_INTERNET_DISCONNECTED")
    send("one")
    expect(signed_in.locator(".spent")).to_be_visible()
    signed_in.context.set_offline(True)
    send("two")
    expect(signed_in.get_by_text("You are offline. It is sent when the network is back.")).to_be_visible()
    signed_in.context.set_offline(False)
    expect(signed_in.locator(".markdown").last).to_have_text("You said: two")
    assert backend.said(backend.sessions()[0]) == ["one", "two"]
    assert len(set(keys)) == 2


@pytest.mark.parametrize("then", ["Send again", "Take back"])
def test_message_that_is_given_up(page: Page, backend, send, keys, allowed_errors, then: str) -> None:
    allowed_errors.append("ERR_FAILED")
    page.clock.install()
    page.goto(f"/#key={backend.key}")
    send("one")
    expect(page.locator(".spent")).to_be_visible()
    page.route(CHAT, lose_answer if then == "Send again" else lambda route: route.abort())
    page.route("**/events", lambda route: route.abort())
    page.evaluate("stop()")
    send("two")
    for _ in range(20):
        page.clock.fast_forward(15_000)
        with suppress(AssertionError):
            expect(page.get_by_text("Not sent: the server does not answer.")).to_be_visible(timeout=500)
            break
    assert len(set(keys[1:])) == 1
    assert len(keys) == 7
    page.unroute(CHAT)
    page.unroute("**/events")
    page.get_by_role("button", name=then).click()
    if then == "Take back":
        expect(page.get_by_label("Message", exact=True)).to_have_value("two")
        expect(page.locator(".user-text")).to_have_text(["one"])
        assert backend.said(backend.sessions()[0]) == ["one"]
        return
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator(".markdown").last).to_have_text("You said: two")
    expect(page.locator(".user-text")).to_have_text(["one", "two"])
    assert backend.said(backend.sessions()[0]) == ["one", "two"]
    assert keys[-1] == keys[1]


def test_leaving_the_page_before_a_message_arrived_asks_first(signed_in: Page, send, allowed_errors) -> None:
    allowed_errors.append("ERR_FAILED")
    signed_in.route(CHAT, lambda route: route.abort())
    send("Precious words")
    expect(signed_in.get_by_text("No answer yet.")).to_be_visible()
    with signed_in.expect_event("dialog") as asked:
        signed_in.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    asked.value.dismiss()


def test_keys_where_random_uuid_is_missing(page: Page) -> None:
    page.goto("/")
    keys = page.evaluate("""async () => {
        const { newKey } = await import("/ui/delivery.js");
        const made = [newKey()];
        Object.defineProperty(crypto, "randomUUID", { value: undefined });
        return [...made, newKey(), newKey()];
    }""")
    assert re.fullmatch(r"[0-9a-f-]{36}", keys[0])
    assert all(re.fullmatch(r"[0-9a-f]{32}", key) for key in keys[1:])
    assert len(set(keys)) == 3
