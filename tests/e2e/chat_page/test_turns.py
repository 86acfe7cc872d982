"""What a turn looks like while it runs, waits, ends, fails and is stopped."""

import json
import re

import pytest
from playwright.sync_api import Page, Route, expect


def test_answer_streams_in(signed_in: Page, backend, send) -> None:
    more = [backend.hold("middle"), backend.text(" three 🇪🇺 four"), backend.hold("end")]
    backend.script(backend.text("One 🎉 two"), *more)
    send("Count")
    answer = signed_in.locator(".markdown")
    expect(answer).to_have_text("One 🎉 two")
    expect(signed_in.locator(".message.writing")).to_be_visible()
    expect(signed_in.get_by_role("button", name="Stop")).to_be_visible()
    backend.release("middle")
    expect(answer).to_have_text("One 🎉 two three 🇪🇺 four")
    backend.release("end")
    expect(signed_in.get_by_role("button", name="Stop")).to_be_hidden()
    expect(answer).to_have_text("One 🎉 two three 🇪🇺 four")
    expect(signed_in.locator("#live")).to_have_text("One 🎉 two three 🇪🇺 four")
    expect(signed_in.locator(".user-text")).to_have_text(["Count"])


def test_costs_of_turn_and_session(signed_in: Page, send) -> None:
    send("first")
    expect(signed_in.locator(".spent")).to_contain_text("demo · 1,000 tokens · $0.0015")
    send("second")
    expect(signed_in.locator(".spent")).to_have_count(2)
    expect(signed_in.locator("#spent")).to_contain_text("2,000 tokens · $0.003")
    expect(signed_in.locator("#sessions li")).to_contain_text("$0.003")


def test_tool_card(signed_in: Page, backend, send) -> None:
    code = "for i in range(3):\n    print(i)"
    tool = backend.tool("run_python", {"code": code, "timeout_s": 5}, "0\n1\n2\n", progress="0\n1\n", gate="tool")
    backend.script(tool, backend.text("Done."))
    send("Count in Python")
    card = signed_in.locator(".tool")
    expect(card.locator("summary")).to_contain_text("run_python")
    expect(card.locator(".tool-state")).to_have_text("running")
    expect(card.locator(".live")).to_have_text("0\n1\n")
    backend.release("tool")
    expect(signed_in.locator(".markdown", has_text="Done.")).to_be_visible()
    expect(card.locator(".tool-state")).to_have_text("done in 1.2 s")
    expect(card.locator(".output")).to_be_hidden()
    card.locator("summary").click()
    expect(card.locator(".code code")).to_have_text(code)
    expect(card.locator("dl")).to_have_text(re.compile(r"timeout_s\s*5"))
    expect(card.locator(".output")).to_have_text("0\n1\n2\n")
    expect(card.locator(".live")).to_be_hidden()
    expect(card.locator(".facts")).to_have_text("exit code: 0")


def test_tool_that_fails_is_open_and_says_so(signed_in: Page, backend, send) -> None:
    backend.script(backend.tool("read_file", {"path": "x"}, "There is no file x.", error="not_found"))
    send("Read x")
    card = signed_in.locator(".tool")
    expect(card.locator(".tool-state")).to_have_text("failed: not found · 1.2 s")
    expect(card.get_by_text("There is no file x.")).to_be_visible()


def test_tool_whose_outcome_is_unknown(signed_in: Page, backend, send) -> None:
    backend.script(backend.tool("run_python", {"code": "1"}, "", lost=True), backend.text("I cannot tell."))
    send("Run it")
    card = signed_in.locator(".tool")
    expect(card.locator(".tool-state")).to_have_text("outcome unknown")
    expect(card.get_by_text("Whether it did its work is not known")).to_be_visible()


def test_reasoning_is_collapsed(signed_in: Page, backend, send) -> None:
    backend.script(backend.thought("Let me think."), backend.hold("thought"), backend.text("Yes."))
    send("Is it?")
    expect(signed_in.get_by_text("Reasoning")).to_be_visible()
    expect(signed_in.get_by_text("Let me think.")).to_be_hidden()
    backend.release("thought")
    expect(signed_in.get_by_text("Yes.", exact=True).first).to_be_visible()
    signed_in.get_by_text("Reasoning").click()
    expect(signed_in.get_by_text("Let me think.")).to_be_visible()


@pytest.mark.parametrize("by_key", [True, False])
def test_stop_ends_the_turn_and_says_what_was_spent(signed_in: Page, backend, send, by_key: bool) -> None:
    tool = backend.tool("run_python", {"code": "1"}, "")
    backend.script(tool, backend.text("Begun"), backend.hold("never"))
    send("Go on for ever")
    expect(signed_in.locator(".markdown", has_text="Begun")).to_be_visible()
    if by_key:
        signed_in.keyboard.press("Escape")
    else:
        signed_in.get_by_role("button", name="Stop").click()
    expect(signed_in.get_by_text("Stopped the model. Spent: 1,000 tokens · $0.0015.")).to_be_visible()
    expect(signed_in.get_by_text("This answer was not finished")).to_be_visible()
    expect(signed_in.get_by_role("button", name="Stop")).to_be_hidden()
    assert [turn.status for turn in backend.turns.values()] == ["cancelled"]


def test_failed_turn_can_be_tried_again(signed_in: Page, backend, send) -> None:
    backend.script(backend.fail("The model server does not answer."))
    send("Hello there")
    failure = signed_in.locator(".failure")
    expect(failure).to_contain_text("The model server does not answer.")
    expect(failure).to_contain_text("model_unavailable")
    failure.get_by_role("button", name="Retry").click()
    expect(signed_in.locator(".markdown", has_text="You said: Hello there")).to_be_visible()
    expect(failure.get_by_role("button", name="Retry")).to_be_hidden()
    assert len(backend.turns) == 2


def test_turn_that_moved_to_another_process(signed_in: Page, backend, send) -> None:
    after = [backend.restart(), backend.hold("silence"), backend.text("New words")]
    backend.script(backend.text("Lost words"), backend.hold("crash"), *after)
    send("Go")
    expect(signed_in.locator(".markdown p", has_text="Lost words")).to_be_visible()
    backend.release("crash")
    expect(signed_in.locator(".markdown")).to_have_count(0)
    backend.release("silence")
    expect(signed_in.locator(".markdown")).to_have_text("New words")
    expect(signed_in.get_by_text("Another one went on with it.")).to_be_visible()


def test_message_that_is_refused_is_given_back(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("429")
    backend.chat_refused = "Every session actor is full."
    send("Precious words")
    expect(signed_in.get_by_role("alert").filter(has_text="Not sent. Every session actor is full.")).to_be_visible()
    expect(signed_in.get_by_label("Message", exact=True)).to_have_value("Precious words")
    expect(signed_in.locator(".turn")).to_have_count(0)
    backend.chat_refused = None
    signed_in.keyboard.press("Enter")
    expect(signed_in.locator(".markdown", has_text="You said: Precious words")).to_be_visible()


def test_two_equal_messages_are_two_messages(signed_in: Page, send) -> None:
    for _ in range(2):
        send("again")
        expect(signed_in.get_by_role("button", name="Stop")).to_be_hidden()
    expect(signed_in.locator(".markdown", has_text="You said: again")).to_have_count(2)
    expect(signed_in.locator(".user-text")).to_have_text(["again", "again"])


def test_messages_sent_before_the_session_exists_keep_their_order(signed_in: Page, backend, send) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    signed_in.route("**/api/v1/chat", hold, times=1)
    with signed_in.expect_request("**/api/v1/chat"):
        send("one")
    send("two")
    send("three")
    expect(signed_in.locator(".badge", has_text="Sending")).to_be_visible()
    expect(signed_in.locator("#queue li")).to_have_text([re.compile("two.*Sending"), re.compile("three.*Sending")])
    held[0].continue_()
    expect(signed_in.locator(".markdown")).to_have_text([f"You said: {text}" for text in ("one", "two", "three")])
    expect(signed_in.locator(".user-text")).to_have_text(["one", "two", "three"])
    assert len(backend.sessions) == 1


def test_first_message_chooses_the_model_and_the_choice_is_remembered(signed_in: Page, backend, send) -> None:
    picker = signed_in.get_by_label("Model of the new session")
    expect(picker).to_have_value("demo")
    picker.select_option("Large")
    with signed_in.expect_request("**/api/v1/chat") as sent:
        send("Hello")
    assert json.loads(sent.value.post_data or "") == {"message": "Hello", "model": "large"}
    expect(signed_in.locator("#session-model")).to_have_text("large")
    expect(picker).to_be_hidden()
    signed_in.reload()
    signed_in.get_by_role("button", name="New session").click()
    expect(picker).to_have_value("large")


def test_message_whose_answer_is_lost_is_not_given_back(signed_in: Page, backend, send, allowed_errors) -> None:
    allowed_errors.append("ERR_")
    send("first")
    expect(signed_in.locator(".spent")).to_be_visible()

    def deliver_and_drop(route: Route) -> None:
        route.fetch()
        expect(signed_in.locator(".markdown", has_text="You said: only once")).to_be_visible()
        route.abort()

    signed_in.route("**/api/v1/chat", deliver_and_drop)
    send("only once")
    expect(signed_in.locator(".spent")).to_have_count(2)
    expect(signed_in.get_by_label("Message", exact=True)).to_have_value("")
    expect(signed_in.locator("#complaint")).to_be_hidden()
    expect(signed_in.locator(".user-text")).to_have_text(["first", "only once"])
