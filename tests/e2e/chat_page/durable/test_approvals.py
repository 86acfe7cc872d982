"""Tool calls that wait for a person: at the page, elsewhere, or in vain."""

import asyncio
import re

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from actors.testing import calls


def card_of(page: Page, tool: str = "run_python") -> Locator:
    return page.get_by_role("region", name=f"Approval of {tool}")


def decide_elsewhere(backend, session_id: str, decision: str) -> None:
    row = backend.call(backend.approvals.page("user_admin", limit=1, after=None, session_id=session_id))[0][0]
    headers = {"Authorization": f"Bearer {backend.key}"}
    answer = httpx.post(f"{backend.url}/api/v1/approvals/{row.id}", json={"decision": decision}, headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def asked(signed_in: Page, backend, send, ask_first) -> Locator:
    """A session that asks before it runs code, and a program that waits."""
    backend.script(backend.runs("print(6 * 7)"))
    ask_first()
    send("What is 6 times 7?")
    card = card_of(signed_in)
    expect(card.get_by_role("button", name="Approve")).to_be_visible()
    return card


def test_approve(signed_in: Page, backend, asked: Locator) -> None:
    listed = signed_in.locator("#sessions li")
    expect(asked.locator("code").last).to_have_text("print(6 * 7)")
    expect(asked).to_contain_text("If nobody decides, it is denied in 1 day.")
    expect(signed_in.locator(".tool-state")).to_have_text("waiting for you")
    expect(signed_in.locator("#session-model")).to_have_text("demo · asks before running code")
    expect(listed).to_contain_text("waits for you")
    assert backend.sandboxes.runs == []
    asked.get_by_role("button", name="Approve").click()
    expect(asked).to_have_text("Approved by you")
    expect(signed_in.locator(".markdown").last).to_have_text("You said: What is 6 times 7?")
    expect(listed).not_to_contain_text("waits for you")
    assert [run.source for run in backend.sandboxes.runs] == ["print(6 * 7)"]
    signed_in.reload()
    expect(asked).to_have_text("Approved by you")


def test_deny_with_a_reason_by_keyboard(signed_in: Page, backend, asked: Locator) -> None:
    keys = signed_in.keyboard
    asked.get_by_role("button", name="Approve").focus()
    keys.press("Tab")
    keys.press("Tab")
    expect(asked.get_by_label("Reason (optional)")).to_be_focused()
    keys.type("Too risky")
    keys.press("Enter")  # decides nothing: there are two ways to go on
    keys.press("Escape")  # and stops nothing
    keys.press("Tab")
    expect(asked.get_by_role("button", name="Deny")).to_be_focused()
    keys.press("Enter")
    expect(asked).to_have_text("Denied by you: “Too risky”")
    expect(asked.locator("p")).to_be_focused()
    expect(signed_in.locator(".tool-state")).to_have_text("denied")
    expect(signed_in.locator(".spent")).to_be_visible()
    assert backend.sandboxes.runs == []


def test_reload_and_a_decision_elsewhere(signed_in: Page, backend, asked: Locator) -> None:
    with signed_in.expect_response(re.compile(r"/api/v1/approvals\?session_id=.*&status=pending")):
        signed_in.reload()
    expect(asked.get_by_role("button", name="Deny")).to_be_visible()
    expect(asked).to_have_count(1)
    decide_elsewhere(backend, backend.sessions()[0], "approve")
    expect(asked).to_have_text("Approved by you")
    expect(signed_in.locator(".tool-state")).to_have_text(re.compile("done"))


def test_somebody_was_faster(signed_in: Page, backend, asked: Locator, allowed_errors) -> None:
    allowed_errors.append("409|ERR_")
    session = backend.sessions()[0]
    signed_in.route("**/events", lambda route: route.abort())
    signed_in.evaluate("stop()")  # ends the stream, so that the page does not hear of it
    decide_elsewhere(backend, session, "deny")
    asked.get_by_role("button", name="Approve").click()
    expect(asked).to_have_text("Denied by you")


def test_answer_to_the_decision_is_lost(signed_in: Page, asked: Locator, allowed_errors) -> None:
    allowed_errors.append("ERR_FAILED")
    signed_in.route(re.compile(r"/approvals/appr_"), lambda route: (route.fetch(), route.abort()), times=1)
    asked.get_by_role("button", name="Approve").click()
    expect(asked).to_have_text("Approved by you")
    expect(signed_in.locator(".spent")).to_be_visible()


@pytest.mark.parametrize("settings", [{"approval_expires_s": 1, "approval_tools": ("run_python",)}])
def test_nobody_decides(signed_in: Page, backend, send) -> None:
    backend.script(backend.runs("print(1)"))
    send("Go")
    card = card_of(signed_in)
    expect(card.get_by_role("button", name="Approve")).to_be_visible()

    async def until_expired() -> None:
        while (await backend.approvals.page("user_admin", limit=1, after=None, status="pending"))[0]:
            await backend.host.sweep()  # as session actors do every few seconds
            await asyncio.sleep(0.05)

    backend.call(until_expired())
    expect(card).to_have_text("Nobody decided in time, so it was denied")


def test_approved_while_the_session_is_paused(signed_in: Page, backend, asked: Locator) -> None:
    signed_in.get_by_role("button", name="Pause").click()
    expect(signed_in.get_by_text("This session is paused.")).to_be_visible()
    asked.get_by_role("button", name="Approve").click()
    expect(asked).to_have_text("Approved by you")
    expect(signed_in.get_by_text("Paused; it goes on when you resume the session")).to_be_visible()
    assert backend.sandboxes.runs == []
    signed_in.get_by_role("button", name="Resume").click()
    expect(signed_in.locator(".spent")).to_be_visible()
    assert len(backend.sandboxes.runs) == 1


def test_turn_that_is_stopped_asks_no_more(signed_in: Page, asked: Locator) -> None:
    signed_in.get_by_role("button", name="Stop").click()
    expect(asked).to_have_text("Nobody decided: the turn ended before")
    expect(signed_in.locator(".tool-state")).to_have_text("stopped")


def test_two_calls_are_decided_in_any_order_and_long_ones_are_folded(signed_in: Page, backend, send, ask_first) -> None:
    program = "\n".join(f"print({n})" for n in range(40))
    backend.script(calls(("run_python", {"code": program}), ("run_shell", {"command": "ls"}), text="Both."))
    ask_first()
    send("Do both")
    first, second = card_of(signed_in), card_of(signed_in, "run_shell")
    expect(first.get_by_role("button", name="Show all 40 lines")).to_be_visible()
    second.get_by_role("button", name="Approve").click()
    expect(second).to_have_text("Approved by you")
    assert backend.sandboxes.runs == []
    first.get_by_role("button", name="Deny").click()
    expect(signed_in.locator(".tool-state")).to_have_text(["denied", re.compile("done")])
    assert [run.source for run in backend.sandboxes.runs] == ["ls"]
