"""GET /costs and POST /estimate: own rows, sums that add up, exports, and a worst case that is what is held."""

import csv
import io
import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow.parquet
import pytest

from actors.core.clock import SystemClock
from actors.core.messages import Usage
from actors.ledger.book import AttemptClosed, AttemptOpened, record
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.sql import SqlLedger
from actors.llm.base import ModelInfo
from actors.testing import ScriptedLLM, calls, says

PER_TOKEN = Decimal("0.000001")
DEAR = ModelInfo("scripted", "Large", 100_000, PER_TOKEN, 4 * PER_TOKEN, cache_read_usd=PER_TOKEN / 10)
CHEAP = ModelInfo("small", "Small", 100_000, PER_TOKEN / 10, PER_TOKEN / 5)


class Priced(ScriptedLLM):
    async def models(self):
        return (DEAR, CHEAP)


@pytest.fixture
async def priced(make_edge):
    """The API over a model with prices, whose calls are held in budgets."""

    def budgets(database):
        return Budgets(SqlLedger(database), UserLimits(hour=5_000_000), clock=SystemClock(), hold_s=600)

    llm = Priced([says("hello", cost_usd=Decimal("0.001"))])
    return await make_edge(llm, budgets=budgets, budget_user_day_micros=0)


async def attempts(edge, count, *, user="user_admin", model="scripted", days=0, cost="0.01", session="sess_a"):
    """Rows of calls, a second apart."""
    begun = edge.services.clock.now() - timedelta(days=days)
    usage = Usage(1000, 100)
    entries = []
    for at in range(count):
        name = f"att_{user}_{model}_{days}_{at}"
        moment = begun - timedelta(seconds=count - at)
        entries.append(AttemptOpened(name, f"turn_{at}", session, user, model, moment))
        known = None if cost is None else Decimal(cost)
        entries.append(AttemptClosed(name, "ok", moment, usage=usage, cost_usd=known))
    await edge.database.write(lambda connection: record(connection, entries))


async def costs(edge, **params):
    response = await edge.http.get("/api/v1/costs", params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_turn_is_in_the_report_and_in_the_budget(priced):
    answer = await priced.say("hello")
    found = await costs(priced, group_by="session")
    (row,) = found["data"]
    assert row["group"] == answer["session_id"]
    assert (row["cost"], row["share"]) == ({"micros": 1000, "usd": "0.001000", "known": True}, 1.0)
    assert row["usage"] == answer["usage"]
    assert (found["totals"]["calls"], found["totals"]["known_share"]) == (1, 1.0)
    assert len(found["series"]) == 30
    assert found["series"][-1]["groups"] == [
        {
            "group": answer["session_id"],
            "micros": 1000,
            "calls": 1,
            "total_tokens": answer["usage"]["total_tokens"],
            "wall_s": None,
        }
    ]
    by_window = {budget["window"]: budget for budget in found["budgets"]}
    assert list(by_window) == ["hour", "day", "month", "total"]
    hour = by_window["hour"]
    assert (hour["spent_micros"], hour["limit_micros"], hour["left_micros"]) == (1000, 5_000_000, 4_999_000)
    assert (by_window["day"]["limit_micros"], by_window["day"]["left_micros"]) == (None, None)


async def test_rows_and_periods_sum_up_to_the_totals(priced):
    await attempts(priced, 3)
    await attempts(priced, 2, model="small", days=9, session="sess_b")
    await attempts(priced, 2, days=2, cost=None)
    for period, group_by in itertools.product(("daily", "weekly", "monthly"), ("user", "model", "session")):
        _adds_up(await costs(priced, period=period, group_by=group_by, limit=1, recommendations=False))


def _adds_up(found):
    assert found["totals"]["cost"] == {"micros": 50_000, "usd": "0.050000", "known": False}
    assert (found["totals"]["calls"], found["totals"]["unknown_calls"]) == (7, 2)
    for rows in (found["data"], found["series"]):
        assert sum(row["cost"]["micros"] for row in rows) == 50_000
        assert sum(row["calls"] for row in rows) == 7
        assert sum(row["usage"]["total_tokens"] for row in rows) == found["totals"]["usage"]["total_tokens"]
    for one in found["series"]:
        assert sum(group["micros"] for group in one["groups"]) == one["cost"]["micros"]
    assert sum(row["share"] for row in found["data"]) == pytest.approx(1)


async def test_others_are_seen_by_operators_only(priced, problem_of):
    await attempts(priced, 2)
    await attempts(priced, 1, user="user_other", cost="0.5")
    found = await costs(priced, group_by="user")
    assert (found["everyone"], [row["group"] for row in found["data"]]) == (True, ["user_other", "user_admin"])
    assert found["budgets"] == []
    assert [row["group"] for row in (await costs(priced, group_by="user", everyone=False))["data"]] == ["user_admin"]
    assert (await costs(priced))["totals"]["calls"] == 2
    assert (await costs(priced, everyone=True))["totals"]["calls"] == 3
    async with priced.client(await priced.key_of("user_other", "sessions:read")) as client:
        own = await client.get("/api/v1/costs", params={"group_by": "user"})
        assert [row["group"] for row in own.json()["data"]] == ["user_other"]
        problem_of(await client.get("/api/v1/costs", params={"everyone": True}), 403, "forbidden")
    async with priced.client(await priced.key_of("user_other", "chat")) as client:
        problem_of(await client.get("/api/v1/costs"), 403, "forbidden")


WRONG = (
    {"from": "2026-01-02", "to": "2026-01-01"},
    {"from": "2001-01-01"},
    {"from": "0001-01-01T00:00:00+05:00", "to": "0001-01-02"},
    {"to": "9999-12-31T23:59:59", "period": "monthly"},
    {"period": "yearly"},
    {"group_by": "colour"},
    {"limit": 0},
    {"from": "soon"},
)


async def test_what_makes_no_report_is_refused(edge, problem_of):
    for params in WRONG:
        problem_of(await edge.http.get("/api/v1/costs", params=params), 422, "invalid_input")


async def test_tools_are_counted_with_what_their_output_costs_later(make_edge):
    script = [calls(("list_files", {})), says("one"), calls(("list_files", {"path": "nowhere"})), says("two")]
    edge = await make_edge(ScriptedLLM(script), budget_tool_micros={"list_files": 7})
    session = (await edge.say("first"))["session_id"]
    second = await edge.say("second", session_id=session)
    found = await costs(edge, group_by="tool")
    (row,) = found["data"]
    assert (row["group"], row["calls"], row["cost"]["micros"]) == ("list_files", 2, 14)
    assert found["series"][-1]["groups"][0]["micros"] == 14
    assert found["totals"]["cost"]["micros"] == 14 + 4 * 10
    events = [event for event in await edge.events(session) if event["type"] == "tool.completed"]
    assert row["tool"]["output_chars"] == sum(len(event["content"]) for event in events)
    # The first output is in the prompts of three later calls, the second one in that of one.
    tokens = [-(-len(event["content"]) // 4) for event in events]
    assert row["tool"]["prompt_tokens_estimate"] == 3 * tokens[0] + tokens[1]
    assert row["tool"]["failed"] == sum(event["error"] is not None for event in events)
    assert found["series"][-1]["groups"][0]["calls"] == 2
    assert second["tool_calls"]
    # A fork's copy of the calls was not paid for again.
    forked = await edge.http.post(f"/api/v1/sessions/{session}/fork", json={})
    assert forked.status_code == 201, forked.text
    assert (await costs(edge, group_by="tool"))["data"][0]["calls"] == 2


async def test_csv_and_parquet_hold_the_same_rows(priced):
    await attempts(priced, 2, days=1, model="=evil()")
    await attempts(priced, 1)
    plain = await priced.http.get("/api/v1/costs", params={"format": "csv"})
    assert plain.headers["content-type"] == "text/csv; charset=utf-8"
    assert plain.headers["content-disposition"].startswith('attachment; filename="greenroom-costs-model-daily-')
    rows = list(csv.DictReader(io.StringIO(plain.text)))
    assert [(row["model"], row["calls"], row["cost_usd"]) for row in rows] == [
        ("'=evil()", "2", "0.020000"),
        ("scripted", "1", "0.010000"),
    ]
    columns = await priced.http.get("/api/v1/costs", params={"format": "parquet"})
    assert columns.headers["content-type"] == "application/vnd.apache.parquet"
    table = pyarrow.parquet.read_table(io.BytesIO(columns.content))
    assert table.column("model").to_pylist() == ["=evil()", "scripted"]
    assert table.column("cost_usd").to_pylist() == [Decimal("0.020000"), Decimal("0.010000")]
    assert table.column("period_start").to_pylist()[1] == datetime.now(UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    assert table.column_names == list(rows[0])


async def test_tools_are_exported_with_columns_of_their_own(make_edge):
    edge = await make_edge(ScriptedLLM([calls(("list_files", {})), says("done")]))
    await edge.say("go")
    plain = await edge.http.get("/api/v1/costs", params={"format": "csv", "group_by": "tool"})
    (row,) = csv.DictReader(io.StringIO(plain.text))
    assert (row["tool"], row["calls"], row["failed"]) == ("list_files", "1", "0")


async def test_recommendations_come_with_enough_rows_and_their_figures(priced):
    await attempts(priced, 19)
    assert (await costs(priced))["recommendations"] == []
    await attempts(priced, 5, days=1)
    found = {one["kind"]: one for one in (await costs(priced))["recommendations"]}
    cheaper = found["cheaper_model"]
    assert cheaper["numbers"]["cheaper_model"] == "small"
    assert cheaper["numbers"]["cheaper_cost_micros"] == 24 * (1000 // 10 + 100 // 5)
    assert cheaper["saves_micros"] == 24 * 10_000 - 24 * 120
    # 18 and 4 prompts were said in the call before: 1,000 tokens each, at a tenth of the price.
    assert found["caching"]["numbers"]["repeated_tokens"] == 22_000
    assert found["caching"]["saves_micros"] == 22_000 * 9 // 10
    assert (await costs(priced, recommendations=False))["recommendations"] == []


async def test_the_worst_case_is_what_is_held(priced):
    body = {"message": "hello"}
    told = await priced.http.post("/api/v1/estimate", json=body)
    assert told.status_code == 200, told.text
    estimate = told.json()
    assert (estimate["model"], estimate["likely"], estimate["fits"]) == ("scripted", None, True)
    assert estimate["alternative"] is None
    await priced.say("hello")
    held = await priced.database.read(lambda c: c.exec_driver_sql("SELECT asked FROM ledger_holds").scalar_one())
    assert estimate["worst_case"]["cost"]["micros"] == held


async def test_the_likely_cost_is_drawn_from_own_rows(priced):
    await attempts(priced, 9)
    await attempts(priced, 9, user="user_other")
    estimate = (await priced.http.post("/api/v1/estimate", json={"message": "x" * 40})).json()
    likely = estimate["likely"]
    assert (likely["from_calls"], likely["from_turns"], likely["calls_per_turn"]) == (9, 9, 1.0)
    assert likely["completion_tokens"] == 100
    assert likely["cost"]["micros"] == likely["prompt_tokens"] + 4 * 100
    assert likely["cost"]["micros"] < estimate["worst_case"]["cost"]["micros"]


async def test_in_a_session_it_goes_on_from_the_last_call(priced, problem_of):
    answer = await priced.say("hello")
    body = {"message": "x" * 40, "session_id": answer["session_id"], "max_completion_tokens": 10}
    estimate = (await priced.http.post("/api/v1/estimate", json=body)).json()
    assert estimate["likely"]["prompt_tokens"] == answer["usage"]["total_tokens"] + 10
    assert estimate["worst_case"]["completion_tokens"] == 10
    async with priced.client(await priced.key_of("user_other", "chat")) as client:
        problem_of(await client.post("/api/v1/estimate", json=body), 404, "session_not_found")


async def test_what_does_not_fit_names_a_model_that_would(make_edge):
    edge = await make_edge(Priced(), budget_user_hour_micros=15_000, completion_max_tokens=4000)
    estimate = (await edge.http.post("/api/v1/estimate", json={"message": "hello"})).json()
    assert not estimate["fits"]
    assert {budget["window"]: budget["fits"] for budget in estimate["budgets"]} == {
        "hour": False,
        "day": True,
        "month": True,
        "total": True,
    }
    assert estimate["alternative"]["model"] == "small"
    assert estimate["alternative"]["worst_case"]["micros"] <= 15_000
    asked = (await edge.http.post("/api/v1/estimate", json={"message": "hello", "model": "small"})).json()
    assert asked["fits"]
    assert asked["worst_case"]["cost"] == estimate["alternative"]["worst_case"]
