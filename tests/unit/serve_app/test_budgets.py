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
