"""`greenroom budget`: a user's budget as the ledger has it, and the operator's switch."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from actors.core.clock import Clock, SystemClock, rfc3339
from actors.core.errors import GreenroomError
from actors.core.ids import uuid7_ids
from actors.core.money import format_usd
from actors.core.settings import Settings
from actors.ledger.alerts import AlertBook
from actors.ledger.base import Flag, Ledger
from actors.ledger.gauges import Gauges
from actors.security.audit import AuditRecord, SqlAudit
from actors.security.cipher import ClearText
from actors.security.keys import USERS
from actors.store.database import Database
from actors.wiring.ledger import open_ledger, user_limits
from actors.wiring.store import open_database

DONE, NO_USER, NO_ANSWER = 0, 1, 3
"""Exit codes."""

_ALERTS = 10


@dataclass(frozen=True, slots=True)
class _Books:
    settings: Settings
    database: Database
    ledger: Ledger
    alerts: AlertBook
    clock: Clock


def show(console: Console, settings: Settings, user_id: str) -> int:
    """Print a user's budget and return the exit code."""
    return _run(console, settings, user_id, lambda books: _shown(console, books, user_id))


def switch(console: Console, settings: Settings, user_id: str, flag: Flag | None, *, reason: str) -> int:
    """Suspend a user, or (None) lift that and every pause; returns the exit code."""
    return _run(console, settings, user_id, lambda books: _switched(console, books, user_id, flag, reason))


def _run(console: Console, settings: Settings, user_id: str, work: Callable[[_Books], Awaitable[None]]) -> int:
    async def run() -> int:
        async with _open(settings) as books:
            query = sa.select(USERS.c.id).where(USERS.c.id == user_id)
            if await books.database.read(lambda c: c.execute(query).first()) is None:
                _say(console, f"There is no user {user_id}.")
                return NO_USER
            await work(books)
            return DONE

    try:
        return asyncio.run(run())
    except GreenroomError as error:
        _say(console, error.message)
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        _say(console, f"{reason}. If the schema is an older one, `greenroom up` brings it up to date.")
    return NO_ANSWER


@asynccontextmanager
async def _open(settings: Settings) -> AsyncGenerator[_Books]:
    clock = SystemClock()
    async with open_database(settings) as database, open_ledger(settings, database, clock) as ledger:
        yield _Books(settings, database, ledger, AlertBook(database, clock), clock)


async def _shown(console: Console, books: _Books, user_id: str) -> None:
    gauges = Gauges(books.ledger, user_limits(books.settings), books.clock)
    for gauge in await gauges.of(user_id):
        words = [f"{gauge.window:<6} spent {format_usd(gauge.spent)}, reserved {format_usd(gauge.reserved)}"]
        if gauge.left is not None and gauge.limit is not None:
            words.append(f"left {format_usd(gauge.left)} of {format_usd(gauge.limit)}")
        if gauge.resets_at is not None:
            words.append(f"until {rfc3339(gauge.resets_at)}")
        if gauge.flag is not None:
            words.append(gauge.flag.upper())
        _say(console, ", ".join(words))
    for alert in await books.alerts.of_user(user_id, limit=_ALERTS):
        told = f"{rfc3339(alert.fired_at)} {alert.severity} in {alert.bucket}: {format_usd(alert.spent_micros)}"
        _say(console, f"{told} spent, threshold {format_usd(alert.threshold_micros)} ({alert.state})")


async def _switched(console: Console, books: _Books, user_id: str, flag: Flag | None, reason: str) -> None:
    now = books.clock.now()
    record = AuditRecord(
        id=uuid7_ids(books.clock)("aud"),
        at=now,
        user_id=user_id,
        action="budget.suspend" if flag else "budget.resume",
        decision="allowed",
        detail={"by": "operator", "reason": reason},
    )
    await SqlAudit(books.database, ClearText()).write(record)
    if flag is None:
        # What is still to come of thresholds that were reached must not undo what a person decided.
        await books.alerts.overrule(user_id, to_send=books.settings.budget_webhook_url is not None)
    names = [scope.bucket(now).name for scope in user_limits(books.settings).of_user(user_id)]
    for name in names[-1:] if flag else names:
        await books.ledger.flag(name, flag)
    _say(console, f"{user_id} is suspended." if flag else f"{user_id} is not suspended, and nothing is paused.")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
