"""Tool calls that wait for a person: asked, seen, decided, and what those get who wait for the answer."""

import asyncio
import json

import pytest

from actors.agent.orders import Withdraw
from actors.agent.sessions import Submit
from actors.core.errors import SessionLost
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

CHAT = "/api/v1/chat"
RUN = {"message": "Clean up.", "approvals": ["run_shell"]}
COMMAND = {"command": "rm -r build"}
NONE = "appr_" + "0" * 32


@pytest.fixture
def sandboxes():
    return FakeSandboxes({"rm -r build": ExecResult("ok", 0, "gone\n")})


@pytest.fixture
def llm():
    return ScriptedLLM([calls(("run_shell", COMMAND))], otherwise=says("Cleaned."))


@pytest.fixture
async def asked(make_edge, llm, sandboxes):
    """A chat whose turn waits for a person, and its answer."""
    edge = await make_edge(llm, sandboxes=sandboxes)
    edge.answer = await edge.http.post(CHAT, json=RUN)
    return edge


async def test_a_chat_whose_turn_asks_a_person_is_answered_at_once(asked, sandboxes):
    body = asked.answer.json()

    assert asked.answer.status_code == 202
    assert asked.answer.headers["location"] == f"/api/v1/turns/{body['turn_id']}"
    assert (body["status"], body["position"], len(body["approval_ids"])) == ("waiting", 0, 1)
    turn = (await asked.http.get(asked.answer.headers["location"])).json()
    session = (await asked.http.get(f"/api/v1/sessions/{body['session_id']}")).json()
    assert (turn["status"], turn["message_id"]) == ("waiting", body["message_id"])
    assert (session["status"], session["approvals"]) == ("waiting", ["run_shell"])
    assert sandboxes.runs == []


async def test_what_is_asked_is_described_in_full(asked):
    body = asked.answer.json()

    approval = (await asked.http.get(f"/api/v1/approvals/{body['approval_ids'][0]}")).json()

    assert approval.pop("created_at") < approval.pop("expires_at")
    assert approval == {
        "id": body["approval_ids"][0],
        "session_id": body["session_id"],
        "turn_id": body["turn_id"],
        "tool_call_id": "call_1",
        "name": "run_shell",
        "arguments": '{"command": "rm -r build"}',
        "status": "pending",
        "on_expiry": "deny",
        "resolved_at": None,
        "decision": None,
        "reason": None,
        "by": None,
    }


async def test_what_is_approved_is_run_and_the_turn_goes_on(asked, sandboxes):
    body = asked.answer.json()

    response = await asked.http.post(f"/api/v1/approvals/{body['approval_ids'][0]}", json={"decision": "approve"})

    approval = response.json()
    assert (response.status_code, approval["status"], approval["decision"]) == (200, "approved", "approve")
    assert (approval["by"], approval["reason"]) == ("user_admin", None)
    assert approval["resolved_at"] > approval["created_at"]
    ended = await asked.ended(body["turn_id"])
    assert (ended["status"], ended["stop_reason"]) == ("completed", "end_turn")
    assert [run.source for run in sandboxes.runs] == ["rm -r build"]


async def test_what_is_denied_is_not_run_and_the_model_reads_why(asked, llm, sandboxes):
    body = asked.answer.json()
    decision = {"decision": "deny", "reason": "not on a Friday"}

    approval = (await asked.http.post(f"/api/v1/approvals/{body['approval_ids'][0]}", json=decision)).json()

    assert (approval["status"], approval["reason"]) == ("denied", "not on a Friday")
    assert (await asked.ended(body["turn_id"]))["status"] == "completed"
    assert sandboxes.runs == []
    assert "not on a Friday" in llm.requests[1].messages[-1].content


async def test_the_answer_is_had_under_the_same_key_when_a_person_has_decided(make_edge, llm, sandboxes):
    edge = await make_edge(llm, sandboxes=sandboxes)
    key = {"idempotency-key": "k"}
    told = [await edge.http.post(CHAT, json=RUN, headers=key) for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in told] == [(202, told[0].json())] * 2
    (approval,) = told[0].json()["approval_ids"]
    await edge.http.post(f"/api/v1/approvals/{approval}", json={"decision": "approve"})
    await edge.ended(told[0].json()["turn_id"])

    answer = await edge.http.post(CHAT, json=RUN, headers=key)

    assert (answer.status_code, answer.json()["message"]) == (200, "Cleaned.")
    assert answer.json()["tool_calls"][0]["content"] == "gone"


async def test_a_turn_that_waits_is_found_again_however_many_messages_came_since(make_edge, llm, sandboxes):
    """A session remembers the newest 256 of its messages, and those whose turns have not ended."""
    edge = await make_edge(llm, sandboxes=sandboxes)
    first = (await edge.http.post(CHAT, json=RUN, headers={"idempotency-key": "k"})).json()
    session = first["session_id"]
    for number in range(300):
        message = f"msg_{number}"
        await edge.host.submit(Submit(session, "user_admin", message, f"turn_{number}", "x"))
        await edge.host.control(session, "user_admin", Withdraw(message))

    again = await edge.http.post(CHAT, json=RUN, headers={"idempotency-key": "k"})

    assert (again.status_code, again.json()) == (202, first)
    assert (await edge.http.get(f"/api/v1/turns/{first['turn_id']}")).json()["status"] == "waiting"


async def test_a_chat_behind_a_turn_that_waits_for_a_person_is_answered_at_once_too(asked):
    body = {"message": "And now?", "session_id": asked.answer.json()["session_id"]}

    async with asyncio.timeout(5):
        queued = (await asked.http.post(CHAT, json=body)).json()

    assert (queued["status"], queued["position"]) == ("queued", 1)
    assert queued["approval_ids"] == asked.answer.json()["approval_ids"]


async def test_a_stream_shows_what_is_asked_and_goes_on_when_it_is_decided(make_edge, llm, sandboxes, parse):
    edge = await make_edge(llm, sandboxes=sandboxes)
    got, approval = b"", None

    async with (
        asyncio.timeout(10),
        edge.streaming.stream("POST", CHAT, json={**RUN, "stream": True}) as response,
    ):
        async for chunk in response.aiter_raw():
            got += chunk
            if approval is None and b"event: turn.waiting" in got:
                asked = next(event for event in parse(got) if event.event == "approval.requested").json()
                approval = asked["approval_id"]
                await edge.http.post(f"/api/v1/approvals/{approval}", json={"decision": "approve"})

    types = [event.event for event in parse(got) if "seq" in event.json()]
    assert types[4:9] == [
        "tool.requested",
        "approval.requested",
        "turn.waiting",
        "approval.resolved",
        "turn.resumed",
    ]
    assert types[-1] == "turn.completed"


# Deciding again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_the_same_decision_again_changes_nothing(asked, decision):
    path = f"/api/v1/approvals/{asked.answer.json()['approval_ids'][0]}"
    first = await asked.http.post(path, json={"decision": decision}, headers={"idempotency-key": "a"})
    await asked.ended(asked.answer.json()["turn_id"])
    await asked.passivate()

    again = await asked.http.post(path, json={"decision": decision, "reason": "other"})

    assert (again.status_code, again.json()) == (200, first.json())
    events = [event["type"] for event in await asked.events(asked.answer.json()["session_id"])]
    assert events.count("approval.resolved") == 1


async def test_another_decision_is_refused(asked, problem_of):
    path = f"/api/v1/approvals/{asked.answer.json()['approval_ids'][0]}"
    await asked.http.post(path, json={"decision": "approve"})

    problem = problem_of(await asked.http.post(path, json={"decision": "deny"}), 409, "approval_not_pending")

    assert problem["approval_id"] == asked.answer.json()["approval_ids"][0]
    assert "approved" in problem["detail"]


async def test_of_many_who_decide_at_once_one_decision_holds(asked):
    path = f"/api/v1/approvals/{asked.answer.json()['approval_ids'][0]}"

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(asked.http.post(path, json={"decision": ("approve", "deny")[number % 2]}))
            for number in range(20)
        ]

    codes = [{task.result().status_code for task in tasks[side::2]} for side in (0, 1)]
    assert sorted(codes, key=max) == [{200}, {409}]
    events = [event["type"] for event in await asked.events(asked.answer.json()["session_id"])]
    assert events.count("approval.resolved") == 1


async def test_a_decision_whose_answer_was_lost_is_judged_by_what_holds(make_edge, llm, sandboxes, problem_of):
    class Lost:
        """The decision is carried out, and nobody hears of it."""

        def __init__(self, host) -> None:
            self._host = host

        def __getattr__(self, name):
            return getattr(self._host, name)

        async def control(self, session_id, user_id, order):
            await self._host.control(session_id, user_id, order)
            raise SessionLost("the host died when it had committed")

    edge = await make_edge(llm, sandboxes=sandboxes, sessions=Lost)
    (approval,) = (await edge.http.post(CHAT, json=RUN)).json()["approval_ids"]

    response = await edge.http.post(f"/api/v1/approvals/{approval}", json={"decision": "approve"})

    assert (response.status_code, response.json()["status"]) == (200, "approved")


async def test_a_decision_that_did_not_arrive_may_be_sent_again(make_edge, llm, sandboxes, problem_of):
    class Away:
        def __init__(self, host) -> None:
            self._host = host

        def __getattr__(self, name):
            return getattr(self._host, name)

        async def control(self, session_id, user_id, order):
            raise SessionLost("nobody is there")

    edge = await make_edge(llm, sandboxes=sandboxes, sessions=Away)
    (approval,) = (await edge.http.post(CHAT, json=RUN)).json()["approval_ids"]

    problem_of(await edge.http.post(f"/api/v1/approvals/{approval}", json={"decision": "approve"}), 503, "session_lost")
    edge.mend()
    assert (await edge.http.post(f"/api/v1/approvals/{approval}", json={"decision": "approve"})).status_code == 200


# When nobody decides -------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_expiry", "ran"), [("deny", []), ("approve", ["rm -r build"])])
async def test_what_nobody_decides_expires(make_edge, llm, sandboxes, problem_of, on_expiry, ran):
    edge = await make_edge(llm, sandboxes=sandboxes, approval_expires_s=0.01, approval_on_expiry=on_expiry)
    body = (await edge.http.post(CHAT, json=RUN)).json()
    path = f"/api/v1/approvals/{body['approval_ids'][0]}"
    async with asyncio.timeout(10):
        while (await edge.http.get(path)).json()["status"] == "pending":
            await edge.host.sweep()

    assert (await edge.ended(body["turn_id"]))["status"] == "completed"
    approval = (await edge.http.get(path)).json()
    assert (approval["status"], approval["decision"], approval["by"]) == ("expired", on_expiry, None)
    assert [run.source for run in sandboxes.runs] == ran
    for decision in ("approve", "deny"):
        problem = problem_of(await edge.http.post(path, json={"decision": decision}), 409, "approval_not_pending")
        assert "expired" in problem["detail"]


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
async def test_nobody_need_decide_when_the_turn_is_cancelled(asked, problem_of, how):
    body = asked.answer.json()
    path = f"/api/v1/approvals/{body['approval_ids'][0]}"
    route = f"turns/{body['turn_id']}/cancel" if how == "cancel" else f"sessions/{body['session_id']}/interrupt"

    await asked.http.post(f"/api/v1/{route}")

    approval = (await asked.http.get(path)).json()
    assert (approval["status"], approval["decision"]) == ("cancelled", None)
    assert (await asked.ended(body["turn_id"]))["status"] == "cancelled"
    problem_of(await asked.http.post(path, json={"decision": "deny"}), 409, "approval_not_pending")


async def test_with_its_session_it_is_gone(asked, problem_of):
    body = asked.answer.json()
    await asked.http.delete(f"/api/v1/sessions/{body['session_id']}")

    path = f"/api/v1/approvals/{body['approval_ids'][0]}"
    problem_of(await asked.http.get(path), 404, "approval_not_found")
    problem_of(await asked.http.post(path, json={"decision": "approve"}), 404, "approval_not_found")
    assert (await asked.http.get("/api/v1/approvals")).json()["data"] == []


# Lists ---------------------------------------------------------------------------------------------


@pytest.fixture
async def three(make_edge):
    """Three sessions with a question each, the first of which was answered."""
    script = calls(("run_shell", COMMAND))
    llm = ScriptedLLM([script] * 3, otherwise=says("Done."))
    edge = await make_edge(llm)
    edge.asked = [(await edge.http.post(CHAT, json=RUN)).json() for _ in range(3)]
    await edge.http.post(f"/api/v1/approvals/{edge.asked[0]['approval_ids'][0]}", json={"decision": "deny"})
    return edge


async def test_an_empty_list(edge):
    assert (await edge.http.get("/api/v1/approvals")).json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


async def test_approvals_are_listed_newest_first(three):
    ids = [body["approval_ids"][0] for body in three.asked][::-1]

    whole = (await three.http.get("/api/v1/approvals")).json()
    first = (await three.http.get("/api/v1/approvals", params={"limit": 2})).json()
    rest = (await three.http.get("/api/v1/approvals", params={"limit": 2, "after": first["last_id"]})).json()

    assert [approval["id"] for approval in whole["data"]] == ids
    assert [approval["id"] for approval in first["data"] + rest["data"]] == ids
    assert (whole["first_id"], whole["last_id"], whole["has_more"]) == (ids[0], ids[2], False)
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_approvals_are_chosen_by_session_and_status(three):
    async def ids(**query):
        page = (await three.http.get("/api/v1/approvals", params=query)).json()
        return [approval["session_id"] for approval in page["data"]]

    sessions = [body["session_id"] for body in three.asked]
    assert await ids(status="pending") == [sessions[2], sessions[1]]
    assert await ids(status="denied") == [sessions[0]]
    assert await ids(session_id=sessions[1]) == [sessions[1]]
    assert await ids(session_id=sessions[1], status="approved") == []


async def test_wrong_questions_about_approvals_are_refused(edge, problem_of):
    problem_of(await edge.http.get("/api/v1/approvals?status=open"), 422, "invalid_input")
    problem_of(await edge.http.get("/api/v1/approvals?limit=101"), 422, "invalid_input")
    problem_of(await edge.http.get(f"/api/v1/approvals?after={NONE}"), 404, "approval_not_found")
    problem_of(await edge.http.get("/api/v1/approvals?session_id=sess_none"), 404, "session_not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "decision"),
        ({"decision": "maybe"}, "decision"),
        ({"decision": "approve", "reason": "x" * 2001}, "reason"),
        ({"decision": "approve", "reason": 3}, "reason"),
        ({"decision": "approve", "by": "me"}, "by"),
    ],
    ids=str,
)
async def test_a_wrong_decision_is_refused(asked, problem_of, body, field):
    path = f"/api/v1/approvals/{asked.answer.json()['approval_ids'][0]}"

    problem = problem_of(await asked.http.post(path, json=body), 422, "invalid_input")

    assert [error["field"] for error in problem["errors"]] == [field]
    assert (await asked.http.get(path)).json()["status"] == "pending"


# Who may -------------------------------------------------------------------------------------------


async def test_deciding_needs_a_scope_of_its_own(asked, problem_of):
    path = f"/api/v1/approvals/{asked.answer.json()['approval_ids'][0]}"
    chatter = await asked.key_of("user_admin", "chat", "sessions:read", "sessions:write")
    approver = await asked.key_of("user_admin", "approvals:resolve")

    async with asked.client(chatter) as client:
        problem = problem_of(await client.post(path, json={"decision": "approve"}), 403, "forbidden")
        assert (await client.get(path)).status_code == 200
    async with asked.client(approver) as client:
        problem_of(await client.get(path), 403, "forbidden")
        assert (await client.post(path, json={"decision": "approve"})).status_code == 200

    assert "approvals:resolve" in problem["detail"]


async def test_what_another_user_is_asked_is_not_found(make_edge, llm, sandboxes, problem_of):
    edge = await make_edge(llm, sandboxes=sandboxes)
    body = (await edge.http.post(CHAT, json=RUN)).json()
    async with edge.client(await edge.key_of("user_other", "admin")) as other:
        for approval in (body["approval_ids"][0], NONE):
            problem_of(await other.get(f"/api/v1/approvals/{approval}"), 404, "approval_not_found")
            response = await other.post(f"/api/v1/approvals/{approval}", json={"decision": "approve"})
            problem_of(response, 404, "approval_not_found")
        assert (await other.get("/api/v1/approvals")).json()["data"] == []
        problem_of(
            await other.get("/api/v1/approvals", params={"session_id": body["session_id"]}), 404, "session_not_found"
        )


# Choosing the tools --------------------------------------------------------------------------------


async def test_tools_are_chosen_when_a_session_is_opened(edge):
    body = {"approvals": ["run_shell", "run_python"]}

    session = (await edge.http.post("/api/v1/sessions", json=body)).json()

    assert session["approvals"] == ["run_shell", "run_python"]
    assert (await edge.events(session["id"]))[0]["approvals"] == ["run_shell", "run_python"]
    assert (await edge.http.get("/api/v1/sessions")).json()["data"][0]["approvals"] == ["run_shell", "run_python"]


@pytest.mark.parametrize("route", ["/api/v1/sessions", CHAT])
async def test_a_tool_that_there_is_not_is_refused(edge, problem_of, route):
    body = {"approvals": ["run_shell", "rm_rf"], **({"message": "Hi"} if route == CHAT else {})}

    problem = problem_of(await edge.http.post(route, json=body), 422, "invalid_input")

    assert "'rm_rf'" in problem["detail"]
    assert "run_shell" in problem["detail"]
    assert (await edge.http.get("/api/v1/sessions")).json()["data"] == []


async def test_tools_of_a_session_that_is_there_cannot_be_chosen(edge, problem_of):
    """They would not be held back, though somebody believes so."""
    session = (await edge.say("Hi"))["session_id"]

    problem = problem_of(await edge.http.post(CHAT, json={**RUN, "session_id": session}), 422, "invalid_input")

    assert "approvals" in problem["detail"]
    assert len(await edge.events(session)) == 6


@pytest.mark.parametrize("approvals", ["run_shell", [3], [""], ["x" * 65], ["run_shell"] * 65, None, ["\ud800"]])
async def test_wrong_names_of_tools_are_refused(edge, problem_of, approvals):
    response = await edge.http.post(
        "/api/v1/sessions",
        content=json.dumps({"approvals": approvals}),
        headers={"content-type": "application/json"},
    )

    problem_of(response, 422, "invalid_input")
