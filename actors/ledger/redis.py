"""Admission in Redis, the book in SQL.

Redis decides, in one step over all buckets, whether a reservation passes. Everything after that is written to SQL
first and to Redis then, so Redis may lose what it holds at any time: what is missing is read from SQL before
anything passes. Should a step end between the two, the reaper (`reaper.py`) brings Redis back to what SQL says.
Redis must not evict keys by itself (`maxmemory-policy noeviction`), and needs no disk.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import redis.asyncio as client
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..core.clock import Clock
from ..core.errors import HoldConflict, LedgerUnavailable, StoreUnavailable
from . import scripts
from .base import Balance, Bucket, Denied, Flag, Hold, State, Wanted, window_end
from .rules import lines, named, repeated
from .sql import SqlLedger

_KEPT = timedelta(days=32)
"""Keys outlive their hold, or their window, by so long: for truth that comes late."""

_QUEUE_S = 10.0
"""So long one waits for others of this process to be done with Redis."""

_ROUNDS = 8
"""A step is tried again when Redis was restarted or a bucket had to be read; so often at most."""


class RedisLedger:
    """A `Ledger` whose reservations Redis admits. Close it with `aclose`."""

    def __init__(
        self, url: str, book: SqlLedger, *, clock: Clock, timeout_s: float = 2.0, connections: int = 32
    ) -> None:
        pool = client.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - its options are untyped
            url,
            max_connections=connections,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Once: a connection that broke while it lay idle. Every step may be repeated.
            retry=Retry(NoBackoff(), 1),
            decode_responses=True,
        )
        self._redis = client.Redis.from_pool(pool)
        self._book = book
        self._clock = clock
        self._run = "-"
        # Those who want a connection queue here, one after the other: the pool lets the newest go first.
        self._free = asyncio.Semaphore(connections)
        self._logger = structlog.get_logger("greenroom.ledger")
        register = self._redis.register_script
        self._admit, self._finish, self._seed = map(register, (scripts.ADMIT, scripts.FINISH, scripts.SEED))
        self._read, self._flag, self._due, self._find = map(
            register, (scripts.READ, scripts.FLAG, scripts.DUE, scripts.HOLD)
        )

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def reserve(self, wanted: Wanted) -> Hold | Denied:
        if wanted.amount == 0:
            return await self._book.reserve(wanted)
        hold = Hold(wanted.attempt_id, wanted.amount, wanted.amount, wanted.buckets, wanted.until)
        made = await self._admitted(hold, wanted.least, State.RESERVED, dear=wanted.dear)
        return made if isinstance(made, Denied) else repeated(made, wanted)

    async def dispatch(self, hold: Hold) -> Denied | None:
        if hold.amount == 0:
            return None
        try:
            await self._book.enter(hold)
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot dispatch: {error.message}") from error
        try:
            # Redis may have forgotten the hold, or some of its buckets may: then they admit it now, or nobody.
            made = await self._admitted(hold, hold.amount, State.DISPATCHED)
        except LedgerUnavailable:
            await self._withdraw(hold)
            raise
        if isinstance(made, Denied):
            await self._withdraw(hold)
            return made
        return None

    async def _withdraw(self, hold: Hold) -> None:
        """Nothing was sent after all."""
        try:
            await self.settle(hold, 0)
        except (StoreUnavailable, HoldConflict) as error:
            self._logger.warning("hold not withdrawn", attempt_id=hold.attempt_id, error=error.message)

    async def release(self, hold: Hold) -> Hold:
        after = replace(hold, state=State.RELEASED)
        if hold.amount == 0:
            return after
        answer = await self._finished(after, only=State.RESERVED)
        if answer[0] == "NOT" or (answer[0] == "OLD" and answer[1] != State.RELEASED):
            raise HoldConflict(f"a hold that is {answer[1]} cannot be released: money may be gone")
        return after

    async def settle(self, hold: Hold, cost: int) -> Hold:
        return await self._mirror(await self._book.settle(hold, cost))

    async def expire(self, hold: Hold, *, estimate: int | None = None) -> Hold:
        return await self._mirror(await self._book.expire(hold, estimate=estimate))

    async def balances(self, buckets: Iterable[str]) -> Mapping[str, Balance]:
        made = [Bucket(name) for name in buckets]
        answer = await self._step(self._read, lambda: ([self._bucket(b) for b in made], ()), made)
        values = zip(made, answer[1:], strict=True)
        return {bucket.name: Balance(int(s), int(r), f or None) for bucket, (s, r, f) in values}

    async def flag(self, bucket: str, flag: Flag | None) -> None:
        await self._book.flag(bucket, flag)
        made = Bucket(bucket)
        await self._step(self._flag, lambda: ([self._bucket(made)], (flag or "",)), [made])

    async def overdue(self, now: datetime, *, limit: int) -> tuple[Hold, ...]:
        entered = await self._book.overdue(now, limit=limit)
        due = await self._step(self._due, lambda: ([self._key("due")], (_millis(now), limit)), ())
        others = [attempt for attempt in due[1:] if attempt not in {hold.attempt_id for hold in entered}]
        found = [await self._hold(attempt) for attempt in others]
        return (*entered, *(hold for hold in found if hold is not None))[:limit]

    async def find(self, attempt_id: str) -> Hold | None:
        return await self._book.find(attempt_id)

    async def _hold(self, attempt_id: str) -> Hold | None:
        answer = await self._step(self._find, lambda: ([self._key("h", attempt_id)], ()), ())
        if answer[0] == "UNKNOWN":
            return None
        _, state, asked, amount, charged, names, until = answer
        moment = datetime.fromtimestamp(int(until) / 1000, UTC)
        return Hold(attempt_id, int(asked), int(amount), named(names), moment, State(state), int(charged))

    # Steps ----------------------------------------------------------------------------------------------

    async def _admitted(self, hold: Hold, least: int, target: State, *, dear: bool = False) -> Hold | Denied:
        """What was admitted once is not `dear` when it is again: it was begun before the pause."""

        def call() -> tuple[list[str], tuple[Any, ...]]:
            sums = (hold.asked, hold.amount, least, _millis(hold.until), self._ttl(hold.until))
            names = [bucket.name for bucket in hold.buckets]
            limits = [-1 if b.limit_micros is None else b.limit_micros for b in hold.buckets]
            ttls = [self._ttl(window_end(bucket.name)) for bucket in hold.buckets]
            told = (*names, *limits, *ttls, int(dear))
            return self._keys(hold), (hold.attempt_id, *sums, target.value, len(names), *told)

        answer = await self._step(self._admit, call, hold.buckets)
        match answer:
            case ["OK", granted]:
                return replace(hold, amount=int(granted))
            case ["KNOWN", state, asked, amount, charged]:
                known = replace(hold, state=State(state), asked=int(asked), amount=int(amount), charged=int(charged))
                if target is State.DISPATCHED and not known.state.is_open:
                    raise HoldConflict(f"a hold that is {known.state} cannot be dispatched")
                return known
            case [_, bucket, spent, reserved, limit, flag, later]:
                return Denied(bucket, int(spent), int(reserved), int(limit), flag or None, later == "1")
            case _:
                raise AssertionError(answer)

    async def _finished(self, after: Hold, *, only: State | None = None) -> list[Any]:
        def call() -> tuple[list[str], tuple[Any, ...]]:
            names = [bucket.name for bucket in after.buckets]
            return self._keys(after), (after.attempt_id, after.state.value, after.charged, only or "", *names)

        return await self._step(self._finish, call, after.buckets)

    async def _mirror(self, after: Hold) -> Hold:
        """Bring Redis to what SQL says. Where that fails the reaper will."""
        if after.amount or after.charged:
            try:
                await self._finished(after)
            except LedgerUnavailable as error:
                self._logger.warning("redis is behind the book", attempt_id=after.attempt_id, error=error.message)
        return after

    async def _step(self, script: Any, call: Any, buckets: Sequence[Bucket]) -> list[Any]:
        """Run a script, and again when Redis has been restarted or lacks a bucket. Raises `LedgerUnavailable`."""
        try:
            for _ in range(_ROUNDS):
                answer = await self._run_once(script, call)
                if answer[0] == "RUN":
                    self._run = answer[1]
                elif answer[0] == "MISSING":
                    await self._fill(buckets)
                else:
                    return answer
        except (RedisError, OSError, TimeoutError) as error:
            raise LedgerUnavailable(f"Redis does not answer: {error}") from error
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot be rebuilt: {error.message}") from error
        raise LedgerUnavailable("Redis does not keep what it is told")

    async def _run_once(self, script: Any, call: Any, *, run: str | None = None) -> list[Any]:
        async with asyncio.timeout(_QUEUE_S):
            await self._free.acquire()
        try:
            keys, arguments = call()
            return await script(keys=keys, args=(run or self._run, *arguments))
        finally:
            self._free.release()

    async def _fill(self, buckets: Sequence[Bucket]) -> None:
        """Read buckets from SQL, with the holds in them that are not over, into a Redis that lacks them."""
        names = [bucket.name for bucket in buckets]
        balances, holds = await self._book.snapshot(names, expired_since=self._clock.now() - _KEPT)
        run = self._run  # that of the keys: should it change meanwhile, Redis refuses them
        keys = [self._key("due"), *map(self._bucket, buckets), *(self._key("h", hold.attempt_id) for hold in holds)]
        arguments: list[Any] = [len(buckets), len(holds)]
        for name in names:
            arguments += (name, balances[name].spent, balances[name].flag or "", self._ttl(window_end(name)))
        for hold in holds:
            arguments += (hold.attempt_id, hold.state.value, hold.asked, hold.amount, hold.charged)
            arguments += (_millis(hold.until), self._ttl(hold.until), lines(hold.buckets))
        await self._run_once(self._seed, lambda: (keys, arguments), run=run)

    def _keys(self, hold: Hold) -> list[str]:
        return [self._key("h", hold.attempt_id), self._key("due"), *map(self._bucket, hold.buckets)]

    def _key(self, *parts: str) -> str:
        # One hash tag: a cluster keeps all of the ledger in one place, as one script needs it.
        return ":".join(("{greenroom-ledger}", self._run, *parts))

    def _bucket(self, bucket: Bucket) -> str:
        return self._key("b", bucket.name)

    def _ttl(self, end: datetime | None) -> int:
        """In milliseconds, by our clock: Redis may have another."""
        now = self._clock.now()
        return int((max(end or now, now) - now + _KEPT).total_seconds() * 1000)


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
