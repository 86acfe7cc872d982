"""Thresholds on every backend: reached once for a bucket, in whatever order and however often, whoever dies."""

import asyncio
import itertools
from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.core.errors import HoldConflict
from actors.ledger.alerts import AlertBook, CatchUp, Watch
from actors.ledger.base import Bucket, Scope, Wanted
from actors.ledger.thresholds import Thresholds

NAMES = {"30% warning": 30, "60% critical": 60, "0.000090 emergency": 90}
_ROUNDS = itertools.count(1)


def buckets(process: Any, user: str) -> tuple[Bucket, ...]:
    now = process.clock.now()
    scopes = (Scope("user", user, "hour"), Scope("user", user, "day"), Scope("session", "s1"), Scope("user", user))
    return tuple(scope.bucket(now) for scope in scopes)


async def sent(process: Any, attempt: str, amount: int, user: str = "u") -> Any:
    until = process.clock.now() + timedelta(minutes=10)
    hold = await process.ledger.reserve(Wanted(attempt, amount, amount, buckets(process, user), until))
    await process.ledger.dispatch(hold)
    return hold


async def alerts(process: Any, user: str = "u") -> list[Any]:
    return list(await AlertBook(process.database, process.clock).of_user(user, limit=100))


STEP = st.one_of(
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 40)),
    st.tuples(st.just("expire"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("catch up"), st.just(0), st.just(0)),
    st.tuples(st.just("forget"), st.just(0), st.just(0)),
)


class Run:
    """Charges by two processes, everything twice and at once."""

    def __init__(self, processes: list[Any], forget: Any) -> None:
        self.processes = processes
        self.forget = forget
        self.user = f"u{next(_ROUNDS)}"
        self.told: Counter[str] = Counter()
        self.holds: list[Any] = []
        self.most = 0

    async def open(self) -> None:
        self.holds = [await sent(self.processes[0], f"{self.user}-{n}", 20, self.user) for n in range(10)]
        self.hour = self.holds[0].buckets[0].name

    async def step(self, steps: list[tuple[str, int, int]]) -> None:
        if ("forget", 0, 0) in steps:
            self.forget()
        async with asyncio.TaskGroup() as group:
            for process, step in itertools.product(self.processes, steps):
                group.create_task(self.do(process, *step))
        self.most = max(self.most, (await self.processes[0].book.balances([self.hour]))[self.hour].spent)

    async def do(self, process: Any, kind: str, attempt: int, cost: int) -> None:
        try:
            match kind:
                case "catch up":
                    await process.database.write(process.watch.catch_up)
                case "settle":
                    self.heard(await process.ledger.settle(self.holds[attempt], cost))
                case "expire":
                    self.heard(await process.ledger.expire(self.holds[attempt]))
        except HoldConflict:
            pass

    def heard(self, after: Any) -> None:
        self.told.update(alert.name for alert in after.crossed)

    async def check(self) -> None:
        rows = await alerts(self.processes[0], self.user)
        found = Counter(row.name for row in rows)
        assert set(found.values()) <= {1}
        assert set(self.told.values()) <= {1}
        assert set(self.told) <= set(found)
        assert {name for name, micros in NAMES.items() if micros <= self.most} <= set(found)
        assert {(row.bucket, row.user_id) for row in rows} <= {(self.hour, self.user)}


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=st.lists(st.lists(STEP, min_size=1, max_size=6), min_size=2, max_size=6))
def test_each_is_reached_once_whoever_charges_and_looks_at_once(
    backend: str, address: str, shared_redis: Any, empty_redis: Any, make_process: Any, rounds: list[Any]
) -> None:
    async def run() -> None:
        redis_url = shared_redis.url if backend.startswith("redis") else None
        processes = [make_process(address, redis_url) for _ in range(2)]
        try:
            one = Run(processes, empty_redis if redis_url else lambda: None)
            await one.open()
            for steps in rounds:
                await one.step(steps)
                await one.check()
        finally:
            for process in processes:
                await process.close()

    asyncio.run(run())


async def test_the_row_is_in_the_commit_of_the_charge(process: Any) -> None:
    hold = await sent(process, "a", 70)
    after = await process.ledger.settle(hold, 65)
    rows = await alerts(process)
    assert [(row.name, row.spent_micros, row.session_id, row.state) for row in sorted(rows, key=lambda r: r.name)] == [
        ("30% warning", 65, "s1", "fired"),
        ("60% critical", 65, "s1", "fired"),
    ]
    assert {alert.id for alert in after.crossed} == {row.id for row in rows}
    assert (await process.ledger.settle(hold, 65)).crossed == ()  # said again, it reaches nothing


async def test_the_next_window_has_its_own(process: Any) -> None:
    await process.ledger.settle(await sent(process, "a", 40), 40)
    process.clock.advance(3600)
    await process.ledger.settle(await sent(process, "b", 40), 40)
    assert [(row.name, row.bucket[-3:]) for row in await alerts(process)] == [
        ("30% warning", "T01"),
        ("30% warning", "T00"),
    ]


async def test_who_charged_has_some_seconds_to_react_then_another_does(open_process: Any) -> None:
    process, other = open_process(), open_process()
    await process.ledger.settle(await sent(process, "a", 40), 40)
    books = [AlertBook(one.database, one.clock) for one in (process, other)]
    assert await books[1].due("fired", limit=10) == ()
    process.clock.advance(11)
    (alert,) = await books[1].due("fired", limit=10)
    claims = [await book.claim(alert, for_s=30) for book in books]
    assert claims == [True, False]
    assert await books[0].due("fired", limit=10) == ()
    assert [await book.reacted(alert, to_send=False) for book in books] == [True, False]


async def test_thresholds_that_came_later_are_caught_up_with_once(process: Any) -> None:
    await process.ledger.settle(await sent(process, "a", 20), 20)
    lower = Watch(Thresholds.of(("hour:20%:warning", "day:1%:critical"), {"hour": 100}), process.clock)
    looks = CatchUp(lower, process.database, process.clock)
    assert [await looks.round(), await looks.round()] == [1, 0]  # a share of a day without a limit is none
    assert [row.name for row in await alerts(process)] == ["20% warning"]


async def test_a_pause_refuses_what_is_dear_and_a_suspension_everything(process: Any) -> None:
    hour, _, _, total = buckets(process, "u")
    await process.ledger.flag(hour.name, "paused")

    async def reserve(attempt: str, amount: int, *, dear: bool) -> Any:
        wanted = Wanted(attempt, amount, amount, buckets(process, "u"), process.clock.now(), dear)
        return getattr(await process.ledger.reserve(wanted), "flag", None)

    for amount in (0, 5):
        assert await reserve(f"dear{amount}", amount, dear=True) == "paused"
        assert await reserve(f"cheap{amount}", amount, dear=False) is None
    await process.ledger.flag(total.name, "suspended")
    for dear in (True, False):
        assert await reserve(f"any{dear}", 5, dear=dear) == "suspended"
