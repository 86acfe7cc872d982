"""The ledger in SQL: the book behind every backend, and by itself the one that admits where there is no Redis.

Every operation is one transaction. SQLite lets one process write at a time; on PostgreSQL rows are locked, a hold
before its buckets, and buckets in the order of their names, so that nobody waits in a circle.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.errors import HoldConflict, LedgerUnavailable, StoreUnavailable
from ..store.database import Database
from .alerts import Watch
from .base import Balance, Denied, Flag, Hold, State, Wanted
from .rules import dispatched, expired, judge, lines, moves, named, released, repeated, settled
from .tables import BUCKETS, HOLDS

_HOLD = sa.select(HOLDS).where(HOLDS.c.attempt_id == sa.bindparam("attempt")).with_for_update()
_BALANCES = sa.select(BUCKETS).where(BUCKETS.c.name.in_(sa.bindparam("names", expanding=True)))
_LOCKED = _BALANCES.order_by(BUCKETS.c.name).with_for_update()
# In words of SQL that both databases know, and SQLAlchemy has no common one for.
_NEW_BUCKET = sa.text(
    "INSERT INTO ledger_buckets (name, spent, reserved) VALUES (:bucket, 0, 0) ON CONFLICT (name) DO NOTHING"
)
_NEW_HOLD = sa.text(
    "INSERT INTO ledger_holds (attempt_id, state, asked, amount, charged, buckets, until)"
    " VALUES (:attempt, :state, :asked, :amount, :charged, :buckets, :until) ON CONFLICT (attempt_id) DO NOTHING"
).bindparams(sa.bindparam("until", type_=HOLDS.c.until.type))
_MOVE = (
    sa.update(BUCKETS)
    .where(BUCKETS.c.name.in_(sa.bindparam("names", expanding=True)))
    .values(spent=BUCKETS.c.spent + sa.bindparam("more"), reserved=BUCKETS.c.reserved + sa.bindparam("held"))
)
_CHANGE = (
    sa.update(HOLDS)
    .where(HOLDS.c.attempt_id == sa.bindparam("attempt"))
    .values(state=sa.bindparam("new_state"), charged=sa.bindparam("new_charged"))
)
_OPEN = (State.RESERVED.value, State.DISPATCHED.value)


T = TypeVar("T")


class _Unmade(Exception):
    """Buckets that have no row yet."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.names = names


class SqlLedger:
    """A `Ledger` over a database alone; several processes may share it."""

    def __init__(self, database: Database, watch: Watch | None = None) -> None:
        """`watch` writes down which thresholds a charge reaches, in the transaction that charges."""
        self._database = database
        self._watch = watch

    async def reserve(self, wanted: Wanted) -> Hold | Denied:
        try:
            if wanted.amount == 0:
                return await self._database.read(lambda c: _look(c, wanted))
            return await self._write(lambda c: _reserve(c, wanted))
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot reserve: {error.message}") from error

    async def dispatch(self, hold: Hold) -> Denied | None:
        try:
            await self._change(hold, dispatched, absent=_unknown)
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot dispatch: {error.message}") from error
        return None

    async def enter(self, hold: Hold) -> Hold:
        """Write a hold that was admitted elsewhere, as dispatched. Raises `HoldConflict`, `StoreUnavailable`."""
        return await self._change(hold, dispatched, absent=dispatched)

    async def release(self, hold: Hold) -> Hold:
        return await self._change(hold, released, absent=_nothing)

    async def settle(self, hold: Hold, cost: int) -> Hold:
        # A cost is written whatever is known of its hold.
        absent = _nothing if cost == hold.amount == 0 else None
        return await self._change(hold, lambda known: settled(known, cost), absent=absent)

    async def expire(self, hold: Hold, *, estimate: int | None = None) -> Hold:
        return await self._change(hold, lambda known: expired(known, estimate), absent=_nothing)

    async def balances(self, buckets: Iterable[str]) -> Mapping[str, Balance]:
        names = list(buckets)
        try:
            return await self._database.read(lambda c: _read(c, _BALANCES, names))
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error.message}") from error

    async def flag(self, bucket: str, flag: Flag | None) -> None:
        def work(connection: Connection) -> None:
            connection.execute(_NEW_BUCKET, {"bucket": bucket})
            connection.execute(sa.update(BUCKETS).where(BUCKETS.c.name == bucket).values(flag=flag))

        try:
            await self._database.write(work)
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot be written: {error.message}") from error

    async def overdue(self, now: datetime, *, limit: int) -> tuple[Hold, ...]:
        query = (
            sa.select(HOLDS)
            .where(HOLDS.c.state.in_(_OPEN), HOLDS.c.until <= now)
            .order_by(HOLDS.c.until, HOLDS.c.attempt_id)
            .limit(limit)
        )
        try:
            return await self._database.read(lambda c: tuple(map(_hold, c.execute(query))))
        except StoreUnavailable as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error.message}") from error

    async def find(self, attempt_id: str) -> Hold | None:
        return await self._database.read(lambda c: _known(c, attempt_id))

    async def snapshot(
        self, buckets: Sequence[str], *, expired_since: datetime
    ) -> tuple[Mapping[str, Balance], tuple[Hold, ...]]:
        """Buckets, and the holds in them whose end is still to come, as of one moment. Raises `StoreUnavailable`."""
        wanted = set(buckets)
        query = sa.select(HOLDS).where(
            HOLDS.c.state.in_(_OPEN) | ((HOLDS.c.state == State.EXPIRED.value) & (HOLDS.c.until >= expired_since))
        )

        def work(connection: Connection) -> tuple[Mapping[str, Balance], tuple[Hold, ...]]:
            if not self._database.is_sqlite:  # where a transaction that reads sees one moment anyway
                connection.execution_options(isolation_level="REPEATABLE READ")
            balances = _read(connection, _BALANCES, list(buckets))
            holds = map(_hold, connection.execute(query))
            return balances, tuple(h for h in holds if wanted & {bucket.name for bucket in h.buckets})

        return await self._database.read(work)

    async def _change(
        self, hold: Hold, change: Callable[[Hold], Hold], *, absent: Callable[[Hold], Hold] | None
    ) -> Hold:
        """Bring a hold to its next state; `absent` says what becomes of one that is not in the book."""
        if hold.amount == 0 and absent is not None:
            return change(hold)
        return await self._write(lambda c: self._apply(c, hold, change, absent or change))

    def _apply(
        self, connection: Connection, hold: Hold, change: Callable[[Hold], Hold], absent: Callable[[Hold], Hold]
    ) -> Hold:
        known = _known(connection, hold.attempt_id)
        if known is None:
            after = absent(hold)
            if after.state is State.RELEASED:
                return after
            balances = _lock(connection, [bucket.name for bucket in after.buckets])
            if _insert(connection, after):
                return self._move(connection, balances, None, after)
            known = _known(connection, hold.attempt_id)
            assert known is not None
        after = change(known)
        if after != known:
            connection.execute(
                _CHANGE, {"attempt": hold.attempt_id, "new_state": after.state.value, "new_charged": after.charged}
            )
            if moves(known, after) != (0, 0):
                after = self._move(connection, _lock(connection, [b.name for b in known.buckets]), known, after)
        return after

    def _move(self, connection: Connection, balances: Mapping[str, Balance], before: Hold | None, after: Hold) -> Hold:
        more, held = moves(before, after)
        connection.execute(_MOVE, {"names": list(balances), "more": more, "held": held})
        if self._watch is None or more <= 0:
            return after
        return replace(after, crossed=self._watch.crossed(connection, balances, more))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._database.write(work)
        except _Unmade as unmade:
            # In a transaction of its own: one that holds rows and makes others could wait in a circle.
            made = [{"bucket": name} for name in sorted(unmade.names)]
            await self._database.write(lambda c: c.execute(_NEW_BUCKET, made))
            return await self._database.write(work)


def _unknown(hold: Hold) -> Hold:
    raise HoldConflict(f"there is no hold of the attempt {hold.attempt_id}")


def _nothing(hold: Hold) -> Hold:
    return Hold(hold.attempt_id, hold.asked, hold.amount, hold.buckets, hold.until, State.RELEASED)


def _look(connection: Connection, wanted: Wanted) -> Hold | Denied:
    denied = judge(wanted, _read(connection, _BALANCES, [bucket.name for bucket in wanted.buckets]))
    return denied if isinstance(denied, Denied) else Hold(wanted.attempt_id, 0, 0, wanted.buckets, wanted.until)


def _reserve(connection: Connection, wanted: Wanted) -> Hold | Denied:
    if (known := _known(connection, wanted.attempt_id)) is not None:
        return repeated(known, wanted)
    names = [bucket.name for bucket in wanted.buckets]
    granted = judge(wanted, _lock(connection, names))
    if isinstance(granted, Denied):
        return granted
    hold = Hold(wanted.attempt_id, wanted.amount, granted, wanted.buckets, wanted.until)
    if not _insert(connection, hold):  # the same attempt came in this very moment, elsewhere
        known = _known(connection, wanted.attempt_id)
        assert known is not None
        return repeated(known, wanted)
    connection.execute(_MOVE, {"names": names, "more": 0, "held": granted})
    return hold


def _lock(connection: Connection, names: list[str]) -> dict[str, Balance]:
    """The buckets as they are while nobody else changes them. Raises `_Unmade`."""
    rows = connection.execute(_LOCKED, {"names": names}).all()
    if len(rows) < len(names):
        raise _Unmade(names)
    return {row.name: Balance(row.spent, row.reserved, row.flag) for row in rows}


def _read(connection: Connection, query: Any, names: list[str]) -> dict[str, Balance]:
    rows = connection.execute(query, {"names": names})
    found = {row.name: Balance(row.spent, row.reserved, row.flag) for row in rows}
    return {name: found.get(name, Balance()) for name in names}


def _known(connection: Connection, attempt_id: str) -> Hold | None:
    row = connection.execute(_HOLD, {"attempt": attempt_id}).first()
    return None if row is None else _hold(row)


def _hold(row: Any) -> Hold:
    return Hold(row.attempt_id, row.asked, row.amount, named(row.buckets), row.until, State(row.state), row.charged)


def _insert(connection: Connection, hold: Hold) -> bool:
    row = {
        "attempt": hold.attempt_id,
        "state": hold.state.value,
        "asked": hold.asked,
        "amount": hold.amount,
        "charged": hold.charged,
        "buckets": lines(hold.buckets),
        "until": hold.until,
    }
    return connection.execute(_NEW_HOLD, row).rowcount == 1
