"""What a budget costs: reserve, dispatch and settle on each backend, beside a bare insert and a bare round trip."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis.asyncio as client
import sqlalchemy as sa

from actors.core.clock import SystemClock
from actors.ledger.base import Hold, Ledger, Wanted
from actors.ledger.budget import UserLimits
from actors.ledger.redis import RedisLedger
from actors.ledger.sql import SqlLedger
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing.redis_server import RedisServer

from .journal import postgres

CALLS = 300


def pair_ms() -> dict[str, dict[str, float]]:
    """One caller, four buckets (a user's hour, day and month, a session), each step durable before the next."""
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as folder, _redis(Path(folder)) as redis_url:
        results = asyncio.run(_measure("SQLite", f"sqlite:///{folder}/greenroom.db", redis_url))
        with postgres() as server:
            server.sql("CREATE DATABASE ledger")
            results |= asyncio.run(_measure("PostgreSQL", server.url("ledger"), redis_url))
    return results


async def _measure(name: str, url: str, redis_url: str) -> dict[str, dict[str, float]]:
    upgrade(url)
    database = Database(url, pool=4, connect_s=5, statement_s=30)
    bare_redis = client.Redis.from_url(redis_url)
    book = SqlLedger(database)
    fast = RedisLedger(redis_url, book, clock=SystemClock())
    try:
        await database.write(lambda c: c.execute(sa.text("CREATE TABLE bare (n integer primary key, t text)")))

        async def insert(number: int) -> None:
            row = {"n": number, "t": "x" * 200}
            await database.write(lambda c: c.execute(sa.text("INSERT INTO bare VALUES (:n, :t)"), row))

        async def ping(_: int) -> None:
            await bare_redis.ping()

        insert_ms, ping_ms = await _times(insert), await _times(ping)
        bare = {"bare_insert_p50_ms": insert_ms[0], "bare_redis_p50_ms": ping_ms[0]}
        return {of: await _ledger(ledger, of) | bare for of, ledger in ((name, book), (f"Redis before {name}", fast))}
    finally:
        await fast.aclose()
        await bare_redis.aclose()
        database.close()


async def _ledger(ledger: Ledger, kind: str) -> dict[str, float]:
    clock = SystemClock()
    limits = UserLimits(hour=10**12, day=10**12, month=10**12)
    holds: list[Hold] = []

    async def reserve(number: int) -> None:
        now = clock.now()
        buckets = tuple(scope.bucket(now) for scope in limits.scopes(kind, f"{kind}-session"))
        made = await ledger.reserve(Wanted(f"{kind}-{number}", 1000, 1000, buckets, now + timedelta(minutes=10)))
        assert isinstance(made, Hold)
        holds.append(made)

    async def dispatch(number: int) -> None:
        await ledger.dispatch(holds[number])

    async def settle(number: int) -> None:
        await ledger.settle(holds[number], 500)

    figures: dict[str, float] = {}
    for name, one in (("reserve", reserve), ("dispatch", dispatch), ("settle", settle)):
        figures[f"{name}_p50_ms"], figures[f"{name}_p99_ms"] = await _times(one)
    return figures


async def _times(one: Callable[[int], Awaitable[Any]]) -> tuple[float, float]:
    times: list[float] = []
    for number in range(CALLS):
        started = time.perf_counter()
        await one(number)
        times.append(time.perf_counter() - started)
    times.sort()
    return round(times[CALLS // 2] * 1000, 2), round(times[CALLS * 99 // 100] * 1000, 2)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    server = RedisServer(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
