"""A budget that is used up: 402 before the message is taken, with what the client needs to know."""

from decimal import Decimal

from actors.core.clock import SystemClock
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.sql import SqlLedger
from actors.llm.base import ModelInfo
from actors.testing import ScriptedLLM, says


class Priced(ScriptedLLM):
    async def models(self):
        return (ModelInfo("scripted", "scripted", 100_000, Decimal(0), Decimal("0.000001")),)


async def test_a_user_without_money_gets_402_and_the_message_is_not_taken(make_edge):
    def budgets(database):
        return Budgets(SqlLedger(database), UserLimits(day=1000), clock=SystemClock(), hold_s=600)

    llm = Priced([says("dear", cost_usd=Decimal("0.001"))])
    edge = await make_edge(llm, budgets=budgets, completion_max_tokens=300)
    first = await edge.http.post("/api/v1/chat", json={"message": "hello"})
    assert first.status_code == 200, first.text
    refused = await edge.http.post("/api/v1/chat", json={"message": "more", "session_id": first.json()["session_id"]})
    assert refused.status_code == 402
    assert refused.headers["content-type"].startswith("application/problem+json")
    body = refused.json()
    assert (body["code"], body["retryable"], body["scope"], body["window"]) == ("budget_exceeded", False, "user", "day")
    assert (body["limit_micros"], body["spent_micros"], body["reserved_micros"]) == (1000, 1000, 0)
    assert body["resets_at"].endswith("T00:00:00.000000Z")
    assert len(llm.requests) == 1


async def test_a_suspended_user_gets_403_for_what_costs_and_keeps_the_rest(make_edge):
    made = []

    def budgets(database):
        made.append(SqlLedger(database))
        return Budgets(made[0], UserLimits(day=1000), clock=SystemClock(), hold_s=600)

    llm = ScriptedLLM(otherwise=says("free", cost_usd=None))
    edge = await make_edge(llm, budgets=budgets)
    session = (await edge.say("hello"))["session_id"]
    await made[0].flag("user:user_admin:t", "suspended")
    refused = await edge.http.post("/api/v1/chat", json={"message": "more", "session_id": session})
    assert (refused.status_code, refused.headers["x-should-retry"]) == (403, "false")
    body = refused.json()
    assert (body["code"], body["retryable"], body["scope"]) == ("account_suspended", False, "user")
    assert "operator" in body["what_to_do"]
    ran = await edge.http.post(f"/api/v1/sessions/{session}/exec", json={"command": "ls"})
    assert (ran.status_code, ran.json()["code"]) == (403, "account_suspended")
    for path in ("", f"/{session}", f"/{session}/events", f"/{session}/files"):
        assert (await edge.http.get(f"/api/v1/sessions{path}")).status_code == 200, path
    assert (await edge.http.delete(f"/api/v1/sessions/{session}")).status_code == 204
    await made[0].flag("user:user_admin:t", None)
    assert (await edge.http.post("/api/v1/chat", json={"message": "hello"})).status_code == 200
    assert len(llm.requests) == 2


async def test_a_paused_budget_says_until_when_and_what_to_do(make_edge):
    made = []

    def budgets(database):
        made.append(SqlLedger(database))
        return Budgets(made[0], UserLimits(day=1000), clock=SystemClock(), hold_s=600)

    edge = await make_edge(Priced(), budgets=budgets, budget_expensive_completion_usd=Decimal("0.5"))
    day = UserLimits(day=1000).scopes("user_admin", "s")[1].bucket(SystemClock().now()).name
    await made[0].flag(day, "paused")
    refused = await edge.http.post("/api/v1/chat", json={"message": "hello"})
    assert (refused.status_code, refused.headers["x-should-retry"]) == (402, "false")
    body = refused.json()
    assert (body["flag"], body["window"], body["limit_micros"], body["spent_micros"]) == ("paused", "day", 1000, 0)
    assert body["resets_at"].endswith("T00:00:00.000000Z")
    assert "cheaper model" in body["what_to_do"]


async def test_the_key_of_a_request_and_the_organisation_are_charged_with_its_turn(make_edge):
    def budgets(database):
        return Budgets(SqlLedger(database), UserLimits(), clock=SystemClock(), hold_s=600)

    llm = Priced([says("dear", cost_usd=Decimal("0.001"))])
    edge = await make_edge(llm, budgets=budgets, completion_max_tokens=300, budget_org="acme")
    answer = await edge.http.post("/api/v1/chat", json={"message": "hello"})
    assert answer.status_code == 200, answer.text
    (accepted,) = [
        event
        for event in (await edge.http.get(f"/api/v1/sessions/{answer.json()['session_id']}/events")).json()["data"]
        if event["type"] == "message.accepted"
    ]
    assert accepted["org_id"] == "acme"
    now = SystemClock().now()
    buckets = [f"key:{accepted['key_id']}:m:{now:%Y-%m}", f"org:acme:m:{now:%Y-%m}"]
    found = await SqlLedger(edge.database).balances(buckets)
    assert [found[name].spent for name in buckets] == [1000, 1000]
