"""Operations in any order, by several processes, with a Redis that forgets: what must hold after each of them."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.core.errors import HoldConflict
from actors.ledger.base import Balance, Bucket, Hold, State, Wanted
from actors.ledger.tables import HOLDS

LIMITS = {"x": 40, "y": 60, "z": None}
_ROUNDS = itertools.count(1)

ATTEMPT = st.integers(0, 5)
BUCKETS = st.sampled_from([("x",), ("x", "y"), ("y", "x", "z"), ("z",)])
OPERATION = st.one_of(
    st.tuples(st.just("reserve"), ATTEMPT, st.integers(1, 30), st.integers(1, 30), BUCKETS),
    st.tuples(st.just("reserve"), ATTEMPT, st.integers(1, 30), st.integers(1, 30), BUCKETS),
    st.tuples(st.just("dispatch"), ATTEMPT),
    st.tuples(st.just("dispatch"), ATTEMPT),
    st.tuples(st.just("settle"), ATTEMPT, st.integers(0, 40)),
    st.tuples(st.just("release"), ATTEMPT),
    st.tuples(st.just("expire"), ATTEMPT),
    st.tuples(st.just("again")),
    st.tuples(st.just("forget")),
)


class Run:
    """One drawn order, and what each attempt is, as far as the answers told."""

    def __init__(self, processes: list[Any], forget: Callable[[], None]) -> None:
        self.processes = itertools.cycle(processes)
        self.process = processes[0]
        self.number = next(_ROUNDS)
        self.forget = forget
        self.holds: dict[str, Hold] = {}
        self.last: tuple[Any, ...] | None = None
        self.over = 0
        """By how much true costs were above their holds."""

    def name(self, bucket: str) -> str:
        return f"user:{bucket}{self.number}:t"

    async def step(self, operation: tuple[Any, ...]) -> None:
        kind = operation[0]
        if kind == "forget":
            self.forget()
            # What was only reserved is forgotten with it: nobody has sent anything for it.
            self.holds = {name: h for name, h in self.holds.items() if h.state is not State.RESERVED}
            return
        if kind == "again":
            if self.last is not None:
                before = await self.balances()
                await self.do(self.last)
                assert await self.balances() == before
            return
        await self.do(operation)
        self.last = operation

    async def do(self, operation: tuple[Any, ...]) -> None:
        kind, attempt, *rest = operation
        name = f"r{self.number}-{attempt}"
        ledger = next(self.processes).ledger
        if kind == "reserve":
            await self.reserve(ledger, name, *rest)
            return
        hold = self.holds.get(name)
        if hold is None:
            return
        try:
            match kind:
                case "dispatch":
                    assert await ledger.dispatch(hold) is None
                    after = Hold(name, hold.asked, hold.amount, hold.buckets, hold.until, State.DISPATCHED)
                case "settle":
                    after = await ledger.settle(hold, rest[0])
                case "release":
                    after = await ledger.release(hold)
                case _:
                    after = await ledger.expire(hold)
        except HoldConflict:
            return
        if kind == "settle" and hold.state is not State.SETTLED:
            # What was released or charged less has no claim on the room that others took since.
            claim = hold.amount if hold.state in (State.RESERVED, State.DISPATCHED, State.EXPIRED) else 0
            self.over += max(0, rest[0] - claim)
        self.holds[name] = Hold(name, hold.asked, hold.amount, hold.buckets, hold.until, after.state, after.charged)

    async def reserve(self, ledger: Any, name: str, amount: int, least: int, buckets: tuple[str, ...]) -> None:
        if name in self.holds:  # the same attempt asks for the same again
            amount, made = self.holds[name].asked, self.holds[name].buckets
        else:
            made = tuple(Bucket(self.name(bucket), LIMITS[bucket]) for bucket in buckets)
        until = self.process.clock.now()
        answer = await ledger.reserve(Wanted(name, amount, min(least, amount), made, until))
        if isinstance(answer, Hold):
            known = self.holds.get(name)
            assert known is None or (known.amount, known.state) == (answer.amount, answer.state)
            self.holds[name] = answer

    async def balances(self) -> dict[str, Balance]:
        found = await self.process.ledger.balances([self.name(bucket) for bucket in LIMITS])
        return {bucket: found[self.name(bucket)] for bucket in LIMITS}

    async def check(self) -> None:
        found = await self.balances()
        for bucket, limit in LIMITS.items():
            mine = [h for h in self.holds.values() if self.name(bucket) in {b.name for b in h.buckets}]
            reserved = sum(h.amount for h in mine if h.state.is_open)
            assert found[bucket] == Balance(sum(h.charged for h in mine), reserved), bucket
            if limit is not None:
                assert found[bucket].spent + reserved <= limit + self.over

    async def check_rows(self) -> None:
        """SQL says the same: buckets as the sum of their rows, and as what the backend answers."""

        def rows(connection: Any) -> list[Any]:
            return [r for r in connection.execute(HOLDS.select()) if r.attempt_id.startswith(f"r{self.number}-")]

        found = await self.process.database.read(rows)
        book = await self.process.book.balances([self.name(bucket) for bucket in LIMITS])
        for bucket in LIMITS:
            mine = [row for row in found if self.name(bucket) in row.buckets.split("\n")]
            assert book[self.name(bucket)] == Balance(
                sum(row.charged for row in mine),
                sum(row.amount for row in mine if State(row.state).is_open),
            )
            assert book[self.name(bucket)].spent == (await self.balances())[bucket].spent


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(OPERATION, min_size=5, max_size=40))
def test_buckets_are_what_their_holds_say(
    backend: str, address: str, shared_redis: Any, empty_redis: Any, make_process: Any, operations: list[Any]
) -> None:
    async def run() -> None:
        redis_url = shared_redis.url if backend.startswith("redis") else None
        processes = [make_process(address, redis_url) for _ in range(2)]
        try:
            one = Run(processes, empty_redis if redis_url else lambda: None)
            for operation in operations:
                if operation == ("forget",) and redis_url is None:
                    continue
                await one.step(operation)
                await one.check()
            await one.check_rows()
        finally:
            for process in processes:
                await process.close()

    asyncio.run(run())
