"""Alerts in SQL: a row for each threshold that was reached, which is also the outbox of what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.clock import Clock
from ..core.ids import derived_id
from ..store.database import Database
from .base import Balance, Scope, Window, owner_of
from .tables import ALERTS, BUCKETS
from .thresholds import Alert, Threshold, Thresholds

OWN_S = 10.0
"""So long whoever reached a threshold has for reacting to it; then somebody else does."""

_LOOK_AGAIN_S = 600.0

_COLUMNS = tuple(field.name for field in fields(Alert))
# In words of SQL that both databases know, and SQLAlchemy has no common one for.
_NEW = sa.text(
    f"INSERT INTO budget_alerts ({', '.join(_COLUMNS)}, due_at)"  # noqa: S608 - names of columns
    f" VALUES ({', '.join(f':{name}' for name in _COLUMNS)}, :due_at) ON CONFLICT DO NOTHING"
).bindparams(sa.bindparam("fired_at", type_=ALERTS.c.fired_at.type), sa.bindparam("due_at", type_=ALERTS.c.due_at.type))


class Watch:
    """Notices thresholds as they are reached. Writes within the transactions of others."""

    def __init__(self, thresholds: Thresholds, clock: Clock) -> None:
        self._thresholds = thresholds
        self._clock = clock

    def crossed(self, connection: Connection, balances: Mapping[str, Balance], more: int) -> tuple[Alert, ...]:
        """What is reached when `more` is spent in each of these buckets, as far as nobody reached it before."""
        found: list[Alert] = []
        for bucket, balance in balances.items():
            for threshold in self._thresholds.crossed(bucket, balance.spent, balance.spent + more):
                alert = self._alert(bucket, threshold, balance.spent + more, _session(balances))
                if self._insert(connection, alert, after_s=OWN_S):
                    found.append(alert)
        return tuple(found)

    def catch_up(self, connection: Connection) -> int:
        """Write what is reached in the windows of now and has no row; how many it was.

        That is where thresholds are other ones than when the money was spent.
        """
        now, made = self._clock.now(), 0
        windows: set[Window] = {threshold.window for threshold in self._thresholds.all}
        for window in windows:
            rows: Sequence[Any] = connection.execute(_spenders(window, now, self._lowest(window))).all()
            for row in rows:
                for threshold in self._thresholds.crossed(row.name, 0, row.spent):
                    made += self._insert(connection, self._alert(row.name, threshold, row.spent, None), after_s=0)
        return made

    def _lowest(self, window: Window) -> int:
        return min(threshold.micros for threshold in self._thresholds.all if threshold.window == window)

    def _alert(self, bucket: str, threshold: Threshold, spent: int, session_id: str | None) -> Alert:
        return Alert(
            id=derived_id("alrt", bucket, threshold.name),
            bucket=bucket,
            name=threshold.name,
            severity=threshold.severity,
            threshold_micros=threshold.micros,
            limit_micros=threshold.limit_micros,
            spent_micros=spent,
            user_id=owner_of(bucket),
            session_id=session_id,
            fired_at=self._clock.now(),
        )

    def _insert(self, connection: Connection, alert: Alert, *, after_s: float) -> bool:
        row = {name: getattr(alert, name) for name in _COLUMNS}
        return connection.execute(_NEW, {**row, "due_at": alert.fired_at + timedelta(seconds=after_s)}).rowcount == 1


class CatchUp:
    """Looks once, at the start of the process that tends to the cluster: other thresholds come with a start."""

    def __init__(self, watch: Watch, database: Database, clock: Clock) -> None:
        self._watch = watch
        self._database = database
        self._clock = clock
        self._next: float | None = clock.monotonic()

    async def round(self) -> int:
        """How many were written. Raises `StoreUnavailable`; then it looks again some minutes later."""
        if self._next is None or self._clock.monotonic() < self._next:
            return 0
        self._next = self._clock.monotonic() + _LOOK_AGAIN_S
        found = await self._database.write(self._watch.catch_up)
        self._next = None
        return found


class AlertBook:
    """What is still to be done about alerts, and who does it. All methods raise `StoreUnavailable`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def due(self, state: str, *, limit: int) -> tuple[Alert, ...]:
        """Alerts in that state that nobody is about to do something about, the oldest first."""
        query = sa.select(ALERTS).where(ALERTS.c.state == state, ALERTS.c.due_at <= self._clock.now())
        return await self._read(query.order_by(ALERTS.c.due_at, ALERTS.c.id).limit(limit))

    async def of_user(self, user_id: str, *, limit: int) -> tuple[Alert, ...]:
        """The newest first."""
        query = sa.select(ALERTS).where(ALERTS.c.user_id == user_id)
        return await self._read(query.order_by(ALERTS.c.fired_at.desc(), ALERTS.c.id).limit(limit))

    async def claim(self, alert: Alert, *, for_s: float) -> bool:
        """Nobody else does something about it for so long; False when somebody was faster."""
        now = self._clock.now()
        free = (ALERTS.c.state == alert.state) & (ALERTS.c.tries == alert.tries) & (ALERTS.c.due_at <= now)
        return await self._change(alert.id, free, tries=alert.tries + 1, due_at=now + timedelta(seconds=for_s))

    async def reacted(self, alert: Alert, *, to_send: bool) -> bool:
        """Everything was done that is done here; False when that was known."""
        state = "reacted" if to_send else "done"
        return await self._change(alert.id, ALERTS.c.state == "fired", state=state, tries=0, due_at=self._clock.now())

    async def sent(self, alert: Alert) -> None:
        await self._change(alert.id, ALERTS.c.state == "reacted", state="done")

    async def not_sent(self, alert: Alert, *, again_in_s: float | None) -> None:
        """None gives up."""
        later = self._clock.now() + timedelta(seconds=again_in_s or 0)
        state = "reacted" if again_in_s is not None else "failed"
        await self._change(alert.id, ALERTS.c.state == "reacted", state=state, due_at=later)

    async def overrule(self, user_id: str, *, to_send: bool) -> None:
        """An operator decided: reactions that are still to come do not undo that."""
        change = (
            sa.update(ALERTS)
            .where(ALERTS.c.user_id == user_id, ALERTS.c.state == "fired")
            .values(state="reacted" if to_send else "done", tries=0)
        )
        await self._database.write(lambda connection: connection.execute(change))

    async def _change(self, alert_id: str, when: Any, **values: Any) -> bool:
        change = sa.update(ALERTS).where(ALERTS.c.id == alert_id, when).values(**values)
        return await self._database.write(lambda connection: connection.execute(change).rowcount == 1)

    async def _read(self, query: Any) -> tuple[Alert, ...]:
        rows: Sequence[Any] = await self._database.read(lambda connection: connection.execute(query).all())
        return tuple(Alert(**{name: getattr(row, name) for name in _COLUMNS}) for row in rows)


def _session(buckets: Mapping[str, Balance]) -> str | None:
    return next((owner_of(name) for name in buckets if name.startswith("session:")), None)


def _spenders(window: Window, now: datetime, least: int) -> Any:
    """Buckets of users in that window of now in which so much is spent."""
    end = Scope("user", "", window).bucket(now).name.removeprefix("user:")
    return sa.select(BUCKETS.c.name, BUCKETS.c.spent).where(
        BUCKETS.c.name.like(f"user:%{end}"), BUCKETS.c.spent >= least
    )
