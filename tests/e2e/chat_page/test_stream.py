"""The event stream: cut, silent, refused, given back, and read from the first event on."""

import re

import pytest
from playwright.sync_api import Page, expect


def stream_positions(backend) -> list[str]:
    return [headers["last-event-id"] for _, path, headers in backend.requests if "last-event-id" in headers]


def test_cut_stream_resumes_without_double_or_loss(signed_in: Page, backend, send) -> None:
    tool = backend.tool("run_python", {"code": "print(1)"}, "1\n", progress="1\n")
    words = [backend.hold("cut"), backend.text("beta 🎉 "), backend.cut(), backend.hold("rest"), backend.text("gamma")]
    backend.script(backend.text("Let me see."), tool, backend.text("Alpha "), *words)
    send("Go")
    expect(signed_in.locator(".markdown", has_text="Alpha")).to_be_visible()
    backend.overlap = 6
    with signed_in.expect_request(lambda request: "last-event-id" in request.headers):
        backend.release("cut")
    expect(signed_in.locator(".markdown").last).to_have_text("Alpha beta 🎉")
    backend.release("rest")
    expect(signed_in.locator(".markdown")).to_have_text(["Let me see.", "Alpha beta 🎉 gamma"])
    expect(signed_in.locator(".tool")).to_have_count(1)
    expect(signed_in.locator(".user-text")).to_have_count(1)
    expect(signed_in.locator("#spent")).to_contain_text("2,000 tokens")
    first, second = stream_positions(backend)
    assert int(second) >= int(first)
    pages = [
        path for _, path, headers in backend.requests if path.endswith("/events") and "last-event-id" not in headers
    ]
    assert len(pages) == 1


def test_previews_start_over_after_a_cut_when_the_answer_did(signed_in: Page, backend, send) -> None:
    backend.script(backend.text("Old answer that goes on"), backend.hold("cut"), backend.restart(), backend.cut(),
                   backend.text("New"), backend.hold("end"))  # fmt: skip
    send("Go")
    expect(signed_in.locator(".markdown p", has_text="Old answer that goes on")).to_be_visible()
    backend.release("cut")
    expect(signed_in.locator(".markdown")).to_have_text("New")
    backend.release("end")
    expect(signed_in.locator(".spent")).to_be_visible()
    expect(signed_in.locator(".markdown")).to_have_text("New")


def test_lost_connection_is_told_and_found_again(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("503")
    send("hello")
    expect(signed_in.locator(".markdown", has_text="You said: hello")).to_be_visible()
    backend.streams_refused = True
    backend.cut_streams()
    banner = signed_in.get_by_role("alert").filter(has_text="The connection is lost.")
    expect(banner).to_be_visible()
    send("sent while blind")
    expect(signed_in.locator(".badge", has_text="Sending")).to_be_visible()
    backend.streams_refused = False
    banner.get_by_role("button", name="Try now").click()
    expect(banner).to_be_hidden()
    expect(signed_in.locator(".markdown", has_text="You said: sent while blind")).to_be_visible()
    expect(signed_in.locator(".user-text")).to_have_text(["hello", "sent while blind"])


def test_silent_stream_is_given_up_after_thirty_seconds(page: Page, backend, send) -> None:
    page.clock.install()
    page.goto("/#key=grk_right")
    with page.expect_response(lambda response: "last-event-id" in response.request.headers):
        send("hello")
    expect(page.locator(".spent")).to_be_visible()
    connects = []
    page.on("request", lambda request: connects.append(request) if "last-event-id" in request.headers else None)
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 0.1"))  # in seconds
    page.clock.fast_forward(27_000)
    page.clock.run_for(2_000)
    page.evaluate("fetch('/health')")
    assert connects == []
    with page.expect_request(lambda request: "last-event-id" in request.headers):
        page.clock.fast_forward(2_000)
        page.clock.run_for(2_000)


def test_page_out_of_sight_gives_its_connection_back(signed_in: Page, backend, send) -> None:
    send("hello")
    expect(signed_in.locator(".markdown", has_text="You said: hello")).to_be_visible()
    set_hidden = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    set_hidden += "document.dispatchEvent(new Event('visibilitychange')); }"
    with signed_in.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        signed_in.evaluate(f"({set_hidden})(true)")
    backend.script(backend.text("Said while nobody looked."))
    session = next(iter(backend.sessions))
    signed_in.evaluate(
        """id => fetch("/api/v1/chat", { method: "POST", body: JSON.stringify({ message: "x", session_id: id }),
        headers: { Authorization: "Bearer grk_right", Prefer: "respond-async", "Idempotency-Key": "other" } })""",
        session,
    )
    expect(signed_in.locator(".turn")).to_have_count(1)
    signed_in.evaluate(f"({set_hidden})(false)")
    expect(signed_in.locator(".markdown p", has_text="Said while nobody looked.")).to_be_visible()
    expect(signed_in.locator("#lost")).to_be_hidden()


def test_history_is_read_to_its_end(signed_in: Page, backend, send) -> None:
    session = backend.add_session("Long one")
    for number in range(60):
        turn = f"turn_{number}"
        spent = {"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "cost_micros": 1, "cost_known": True}
        answer = {"message_id": f"m{number}", "content": f"Answer {number}", "model": "demo", "finish_reason": "stop"}
        session.emit("message.accepted", turn, message_id=f"u{number}", content=f"Question {number}", model=None)
        session.emit("turn.started", turn, message_id=f"u{number}", model="demo")
        session.emit("message.completed", turn, tool_calls=[], reasoning=None, **answer)
        session.emit("turn.completed", turn, stop_reason="end_turn", steps=1, spent=spent)
    signed_in.goto(f"/#session={session.id}")
    expect(signed_in.locator(".user-text")).to_have_count(60)
    expect(signed_in.locator(".markdown")).to_have_text([f"Answer {number}" for number in range(60)])
    expect(signed_in.locator(".markdown p", has_text="Answer 59")).to_be_in_viewport()
    expect(signed_in.locator("#live")).to_be_empty()
    assert stream_positions(backend) == ["241"]


def test_tab_that_comes_later_follows_the_running_turn(signed_in: Page, backend, send) -> None:
    tool = backend.tool("run_python", {"code": "1"}, "ok", progress="half way\n", gate="tool")
    backend.script(tool, backend.text("All of it, "), backend.hold("text"), backend.text("to the end."))
    send("Go")
    expect(signed_in.locator(".live")).to_have_text("half way\n")
    expect(signed_in).to_have_url(re.compile("#session="))
    other = signed_in.context.new_page()
    other.goto(signed_in.url)
    expect(other.locator(".live")).to_have_text("half way\n")
    backend.release("tool")
    for tab in (signed_in, other):
        expect(tab.locator(".markdown", has_text="All of it,")).to_be_visible()
    backend.release("text")
    for tab in (signed_in, other):
        expect(tab.locator(".markdown", has_text="All of it, to the end.")).to_have_count(1)


@pytest.mark.parametrize(
    ("previews", "text"),
    [
        ([(1, 0, "ab"), (1, 2, "cd")], "abcd"),
        ([(1, 0, "abc"), (1, 2, "cd")], "abcd"),
        ([(1, 0, "abcd"), (1, 1, "bc")], "abcd"),
        ([(1, 0, "abcd"), (1, 0, "ab")], "abcd"),
        ([(1, 0, "abcd"), (2, 0, "ab")], "ab"),
        ([(1, 0, "abcd"), (2, 0, "ab"), (2, 2, "xy")], "abxy"),
        ([(1, 0, "abcd"), (1, 0, "xy")], "xy"),
        ([(1, 0, "abcd"), (2, 4, "ef")], "abcdef"),
        ([(1, 0, "🎉b"), (1, 2, "c🎉"), (1, 3, "🎉d")], "🎉bc🎉d"),
        ([(1, 0, "ab"), (1, 4, "ef"), (1, 6, "g")], "ab…efg"),
    ],
)
def test_previews_by_offset(page: Page, previews: list[tuple[int, int, str]], text: str) -> None:
    page.goto("/")
    shown = page.evaluate(
        """async (previews) => {
            const { Conversation } = await import("/ui/conversation.js");
            const conversation = new Conversation();
            let connection = 0;
            conversation.apply({ type: "message.accepted", turn_id: "t", content: "" });
            for (const [number, offset, text] of previews) {
                for (; connection < number; connection += 1) conversation.connected();
                conversation.preview({ type: "message.delta", turn_id: "t", message_id: "m", offset, text });
            }
            return conversation.turns.get("t").message("m").answer.text;
        }""",
        previews,
    )
    assert shown == text
