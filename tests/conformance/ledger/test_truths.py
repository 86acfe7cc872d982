"""Costs that come late: looked up until they are there, charged in place of what was held, and told in totals."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from actors.core.errors import ModelUnavailable
from actors.core.events import Spent
from actors.core.messages import Usage
from actors.ledger.base import Balance, State
from actors.ledger.book import ATTEMPTS, AttemptClosed, AttemptNamed, AttemptOpened, attempts_of, record
from actors.ledger.reaper import Reaper
from actors.ledger.totals import totals
from actors.ledger.truths import GIVE_UP, LateTruths
from actors.llm.base import GenerationRecord

U = "user:u:t"


class Records:
    """Look-ups, answered by what is there of them by now."""

    def __init__(self, **found: GenerationRecord | Exception) -> None:
        self.found = found
        self.asked: list[str] = []

    async def generation(self, generation_id: str, *, within_s: float = 30.0) -> GenerationRecord | None:
        assert within_s == 0
        self.asked.append(generation_id)
        found = self.found.get(generation_id)
        if isinstance(found, Exception):
            raise found
        return found


def costs(micros: str, **members: Any) -> GenerationRecord:
    return GenerationRecord("gen", Decimal(micros) / 1_000_000, Usage(10, 3), **members)


class Broken:
    """Attempts that were sent, each held at 100, whose answers broke off."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.records = Records()
        self.truths = LateTruths(process.ledger, process.database, self.records, clock=process.clock)

    async def attempt(self, name: str, *, expires: bool = True, **end: Any) -> None:
        process = self.process
        hold = await process.ledger.reserve(process.wanted(name, 100, limit=None))
        assert await process.ledger.dispatch(hold) is None
        now = process.clock.now()
        closed = AttemptClosed(name, "model_unavailable", now, **{"generation_id": f"gen_{name}", **end})
        opened = AttemptOpened(name, "turn", "sess", "u", "asked", now)
        await process.database.write(lambda c: record(c, [opened, closed]))
        if expires:
            await process.ledger.expire(hold, estimate=closed.spent.cost_micros if closed.spent.cost_known else None)

    async def row(self, name: str) -> Any:
        query = sa.select(ATTEMPTS).where(ATTEMPTS.c.id == name)
        return await self.process.database.read(lambda c: c.execute(query).one())

    async def balance(self) -> Balance:
        return (await self.process.ledger.balances([U]))[U]

    async def total(self, told: Spent) -> Spent:
        return (await self.process.database.read(lambda c: totals(c, {"sess": told})))["sess"]


@pytest.fixture
def broken(process: Any) -> Broken:
    return Broken(process)


async def test_a_late_truth_replaces_what_was_held_in_the_ledger_the_book_and_the_totals(broken: Broken) -> None:
    await broken.attempt("a")
    await broken.attempt("nameless", generation_id=None)
    told = Spent(Usage(5, 5), 50, cost_known=False)
    assert await broken.balance() == Balance(200, 0)
    broken.records.found["gen_a"] = costs("17.25", model="answered", provider="P\0")
    assert [await broken.truths.round() for _ in range(2)] == [1, 0]
    assert broken.records.asked == ["gen_a"]
    hold = await broken.process.ledger.find("a")
    assert (hold.state, hold.charged) == (State.SETTLED, 18)
    assert await broken.balance() == Balance(118, 0)
    row = await broken.row("a")
    assert (row.state, row.cost_micros, Decimal(row.cost_exact), row.cost_source) == (
        "settled",
        18,
        Decimal("0.00001725"),
        "upstream",
    )
    assert (row.model, row.provider, row.outcome) == ("answered", "P\ufffd", "model_unavailable")
    assert (row.prompt_tokens, row.completion_tokens, row.look_at) == (10, 3, None)
    # One of which nobody will ever know keeps its hold, and the total open.
    assert await broken.total(told) == Spent(Usage(15, 8), 68, cost_known=False)
    found = {one.id: one for one in await broken.process.database.read(lambda c: attempts_of(c, "sess"))}
    assert found["a"].told == Spent(cost_known=False)


async def test_a_list_price_is_corrected_and_the_tokens_of_the_answer_stay(broken: Broken) -> None:
    await broken.attempt("a", usage=Usage(7, 2), cost_usd=Decimal("0.00003"), cost_source="price_list")
    assert await broken.balance() == Balance(30, 0)
    broken.records.found["gen_a"] = costs("12")
    await broken.truths.round()
    assert await broken.balance() == Balance(12, 0)
    told = Spent(Usage(7, 2), 30)
    assert await broken.total(told) == Spent(Usage(7, 2), 12)
    (attempt,) = await broken.process.database.read(lambda c: attempts_of(c, "sess"))
    assert attempt.told == told


async def test_a_record_is_waited_for_at_longer_and_longer_times_and_given_up_in_the_end(broken: Broken) -> None:
    await broken.attempt("a")
    await broken.attempt("b")
    broken.records.found["gen_b"] = ModelUnavailable("nobody is there")
    clock, ages = broken.process.clock, list[float]()
    begun = clock.now()
    while (at := (await broken.row("a")).look_at) is not None:
        clock.advance((at - clock.now()).total_seconds())
        ages.append((clock.now() - begun).total_seconds())
        await broken.truths.round()
    assert ages[:6] == [0, 1, 2, 4, 8, 16]
    assert timedelta(seconds=ages[-1]) >= GIVE_UP
    assert max(b - a for a, b in itertools.pairwise(ages)) == 3600
    assert broken.records.asked.count("gen_a") == broken.records.asked.count("gen_b") == len(ages)
    assert await broken.truths.round() == 0
    assert await broken.balance() == Balance(200, 0)
    assert (await broken.row("a")).cost_micros is None


async def test_a_truth_that_comes_before_the_reaper_settles_the_open_hold(broken: Broken) -> None:
    await broken.attempt("early", expires=False)
    await broken.attempt("late", expires=False)
    listed = {"usage": Usage(1, 1), "cost_usd": Decimal("0.00003"), "cost_source": "price_list"}
    await broken.attempt("listed", expires=False, **listed)
    broken.records.found["gen_early"] = costs("40")
    await broken.truths.round()
    assert await broken.balance() == Balance(40, 200)
    broken.process.clock.advance(3600)
    assert await Reaper(broken.process.ledger, broken.process.database, clock=broken.process.clock).round() == 2
    assert await broken.balance() == Balance(40 + 100 + 30, 0)
    broken.records.found |= {"gen_late": costs("140"), "gen_listed": costs("20")}
    assert await broken.truths.round() == 2
    assert await broken.balance() == Balance(40 + 140 + 20, 0)


async def test_a_truth_is_found_by_the_name_that_was_written_while_the_call_ran(broken: Broken) -> None:
    process = broken.process
    now = process.clock.now()
    running = [AttemptOpened("a", "turn", "sess", "u", "m", now), AttemptNamed("a", "gen_a")]
    await process.database.write(lambda c: record(c, running))
    await process.database.write(lambda c: record(c, [AttemptClosed("a", "lost", now)]))
    broken.records.found["gen_a"] = costs("9")
    assert await broken.truths.round() == 1
    assert (await broken.row("a")).cost_micros == 9
    assert await process.ledger.find("a") is None  # nothing was held: a budget was not kept


async def test_two_rounds_at_once_and_a_settlement_that_contradicts_do_no_harm(
    broken: Broken, open_process: Callable[[], Any]
) -> None:
    await broken.attempt("a")
    await broken.attempt("b")
    hold = await broken.process.ledger.find("b")
    await broken.process.ledger.settle(hold, 5)
    broken.records.found |= {"gen_a": costs("40"), "gen_b": costs("6")}
    other = open_process()
    await LateTruths(other.ledger, other.database, broken.records, clock=other.clock).round()
    await broken.truths.round()
    assert await broken.balance() == Balance(45, 0)
    assert (await broken.row("b")).look_at is not None
    assert await broken.total(Spent(cost_known=False)) == Spent(Usage(10, 3), 40, cost_known=False)


async def test_where_nobody_keeps_records_nothing_is_left_to_look_up(broken: Broken) -> None:
    await broken.attempt("a")
    process = broken.process
    assert await LateTruths(process.ledger, process.database, None, clock=process.clock).round() == 0
    assert (await broken.row("a")).look_at is None
    assert await broken.truths.round() == 0
