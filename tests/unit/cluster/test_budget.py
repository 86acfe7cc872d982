"""`greenroom budget`: what an operator sees, and that the switch is the ledger's own."""

import asyncio

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from actors.core.clock import SystemClock
from actors.core.settings import Settings
from actors.ledger.base import Hold, Scope, State
from actors.security.audit import AUDIT
from actors.security.keys import USERS
from actors.store.migrate import upgrade
from actors.wiring.ledger import open_ledger
from actors.wiring.store import open_database
from cluster.cli import app

runner = CliRunner()
SCOPES = (Scope("user", "u1", "hour"), Scope("user", "u1", "day"), Scope("user", "u1"))


@pytest.fixture
def spent(home):
    """A user who spent 45 of the 50 dollars of this day, whose threshold nobody has reacted to yet."""
    upgrade(f"sqlite:///{home / 'greenroom.db'}")
    clock = SystemClock()

    async def spend():
        settings = Settings(home=home)
        async with open_database(settings) as database, open_ledger(settings, database, clock) as ledger:
            row = {"id": "u1", "name": "u1", "created_at": clock.now()}
            await database.write(lambda c: c.execute(USERS.insert(), [row]))
            buckets = tuple(scope.bucket(clock.now()) for scope in SCOPES[1:])
            hold = Hold("att", 45_000_000, 45_000_000, buckets, clock.now(), State.DISPATCHED)
            await ledger.settle(hold, 45_000_000)

    asyncio.run(spend())
    return home


def flags(home):
    async def read():
        settings, clock = Settings(home=home), SystemClock()
        async with open_database(settings) as database, open_ledger(settings, database, clock) as ledger:
            found = await ledger.balances([scope.bucket(clock.now()).name for scope in SCOPES])
            audit = await database.read(
                lambda c: c.execute(select(AUDIT.c.action).order_by(AUDIT.c.id)).scalars().all()
            )
            return [balance.flag for balance in found.values()], list(audit)

    return asyncio.run(read())


def told(*words):
    result = runner.invoke(app, ["budget", *map(str, words)])
    return result.exit_code, result.output


def test_show_says_what_is_left_and_which_thresholds_were_reached(spent):
    code, output = told("show", "u1", "--home", spent)
    assert code == 0, output
    assert "day    spent $45.00, reserved $0.000000, left $5.00 of $50.00, until " in output
    assert "critical in user:u1:d:" in output
    assert "(fired)" in output


def test_suspend_and_resume_are_one_switch_and_audited(spent):
    assert told("suspend", "u1", "--reason", "look", "--home", spent) == (0, "u1 is suspended.\n")
    assert flags(spent) == ([None, None, "suspended"], ["budget.suspend"])
    assert "SUSPENDED" in told("show", "u1", "--home", spent)[1]
    code, output = told("resume", "u1", "--home", spent)
    assert (code, output) == (0, "u1 is not suspended, and nothing is paused.\n")
    assert flags(spent) == ([None, None, None], ["budget.suspend", "budget.resume"])
    # What was still to come of the threshold does not pause the user again.
    assert "(done)" in told("show", "u1", "--home", spent)[1]


def test_a_user_that_there_is_not_is_told_and_not_suspended(spent):
    assert told("suspend", "nobody", "--home", spent) == (1, "There is no user nobody.\n")
    assert flags(spent)[1] == []
