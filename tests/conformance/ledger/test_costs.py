"""Reports on SQLite and PostgreSQL: they sum up, on either, to what the book of attempts says."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from actors.core.events import PaidKind
from actors.core.messages import Usage
from actors.ledger.base import Bucket, Wanted
from actors.ledger.book import AttemptClosed, AttemptOpened, record
from actors.ledger.costs import CostBook
from actors.ledger.periods import span_of
from actors.ledger.sql import SqlLedger
from actors.ledger.sums import Group, Sums
from actors.store.database import Database

NOW = datetime(2026, 11, 28, 11, 30, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def database(address: str) -> AsyncIterator[Database]:
    database = Database(address, pool=2, connect_s=5, statement_s=20)
    yield database
    database.close()


class Books:
    """Attempts as sessions write them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.made = 0

    async def attempt(
        self,
        started: datetime,
        cost: str | None = "0.000010",
        *,
        user: str = "user_1",
        model: str = "m1",
        session: str = "sess_1",
        closed: bool = True,
        usage: Usage | None = None,
    ) -> str:
        self.made += 1
        entries: list[Any] = [AttemptOpened(f"att_{self.made}", "turn_1", session, user, model, started)]
        if closed:
            known = None if cost is None else Decimal(cost)
            used = usage or Usage(100, 20, 50, 5)
            entries.append(AttemptClosed(f"att_{self.made}", "ok", started, model, usage=used, cost_usd=known))
        await self.database.write(lambda c: record(c, entries))
        return f"att_{self.made}"


@pytest.fixture
def books(database: Database) -> Books:
    return Books(database)


async def test_groups_and_periods_sum_up(database: Database, books: Books) -> None:
    for days in range(40):
        started = NOW - timedelta(days=days, hours=days % 11)
        names = {"user": f"user_{days % 3}", "model": f"m{days % 4}", "session": f"sess_{days}"}
        await books.attempt(started, None if days % 5 == 0 else f"0.0000{days:02}", **names)
    book = CostBook(database)
    for period in ("daily", "weekly", "monthly"):
        for by in ("user", "model", "session"):
            span = span_of(period, NOW, since=NOW - timedelta(days=50))
            report = await book.report(span, by, user_id=None, limit=3)
            assert report.total.calls == 40
            assert report.total.unknown == 8
            assert report.total.micros == sum(days for days in range(40) if days % 5)
            assert report.total.usage == Usage(4000, 800, 2000, 200)
            assert sum((group.sums for group in report.groups), Sums()) == report.total
            assert sum((one.sums for one in report.slices), Sums()) == report.total
            for group in report.groups:
                parts = (part.sums for one in report.slices for part in one.groups if part.key == group.key)
                assert sum(parts, Sums()) == group.sums
            assert len(report.groups) <= 4
            assert [one.begin for one in report.slices] == list(span.begins)


async def test_a_user_sees_the_own_rows_and_the_dearest_first(database: Database, books: Books) -> None:
    await books.attempt(NOW, "0.000001", model="cheap")
    await books.attempt(NOW, "0.000009", model="dear")
    await books.attempt(NOW, "0.5", user="user_2", model="theirs")
    report = await CostBook(database).report(span_of("daily", NOW), "model", user_id="user_1", limit=9)
    assert [(group.key, group.sums.micros) for group in report.groups] == [("dear", 9), ("cheap", 1)]
    assert [group.key for one in report.slices for group in one.groups] == ["dear", "cheap"]
    everybody = await CostBook(database).report(span_of("daily", NOW), "user", user_id=None, limit=1)
    assert [(group.key, group.sums.micros) for group in everybody.groups] == [("user_2", 500_000), (None, 10)]


async def test_what_begins_at_midnight_belongs_to_the_new_day(database: Database, books: Books) -> None:
    midnight = NOW.replace(hour=0, minute=0)
    await books.attempt(midnight, "0.000001")
    await books.attempt(midnight - timedelta(microseconds=1), "0.000002")
    await books.attempt(midnight + timedelta(days=1), "0.000004")
    report = await CostBook(database).report(
        span_of("daily", NOW, since=midnight - timedelta(days=1), until=NOW), "model", user_id="user_1", limit=9
    )
    assert [(one.begin.day, one.sums.micros) for one in report.slices] == [(27, 2), (28, 1)]


async def test_an_unknown_cost_is_not_zero_and_says_what_budgets_were_charged(database: Database, books: Books) -> None:
    lost = await books.attempt(NOW, None)
    running = await books.attempt(NOW, closed=False)
    known = await books.attempt(NOW, "0.000007")
    ledger = SqlLedger(database)
    for attempt in (lost, running, known):
        hold = await ledger.reserve(Wanted(attempt, 40, 40, (Bucket("user:user_1:t"),), NOW))
        assert not hasattr(hold, "flag")
        await ledger.dispatch(hold)
        if attempt == lost:
            await ledger.expire(hold)
        if attempt == known:
            await ledger.settle(hold, 7)
    report = await CostBook(database).report(span_of("daily", NOW), "model", user_id="user_1", limit=9)
    expected = Sums(calls=3, unknown=2, running=1, micros=7, held=40, usage=Usage(200, 40, 100, 10))
    assert report.groups == (Group("m1", expected),)


async def test_what_is_no_model_is_in_the_sum_and_apart(database: Database, books: Books) -> None:
    await books.attempt(NOW, "0.000009")
    uses: list[tuple[PaidKind, str, str | None]] = [
        ("tool", "recall", "0"),
        ("sandbox", "run_python", "0.000020"),
        ("embedding", "e5", None),
    ]
    for kind, name, cost in uses:
        opened = AttemptOpened(f"use_{kind}", "turn_1", "sess_1", "user_1", "", NOW, kind, name)
        closed = AttemptClosed(f"use_{kind}", "ok", NOW, cost_usd=None if cost is None else Decimal(cost), seconds=1.0)
        await database.write(lambda c, rows=(opened, closed): record(c, rows))
    book = CostBook(database)
    report = await book.report(span_of("daily", NOW), "model", user_id="user_1", limit=9)
    told = {group.key: (group.sums.micros, group.sums.calls, group.sums.uses) for group in report.groups}
    assert told == {"(sandboxes)": (20, 0, 1), "m1": (9, 1, 0), "(tools)": (0, 0, 1), "(embeddings)": (0, 0, 1)}
    assert (report.total.micros, report.total.calls, report.total.uses, report.total.unknown) == (29, 1, 3, 1)
    assert sum((group.sums for group in report.groups), Sums()) == report.total
    session = await book.report(span_of("daily", NOW), "session", user_id="user_1", limit=9)
    assert session.groups == (Group("sess_1", report.total),)


async def test_nothing_is_a_report_too(database: Database) -> None:
    report = await CostBook(database).report(span_of("weekly", NOW), "session", user_id="user_1", limit=9)
    assert (report.total, report.groups, len(report.slices)) == (Sums(), (), 12)
