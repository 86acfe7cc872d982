"""Thousands of calls over every fault of the wire, then what comes late: our books are the model server's bill."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from actors.agent.book import SessionBook
from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Submit
from actors.agent.sql_journal import SqlJournal
from actors.core.clock import SystemClock
from actors.core.errors import SessionLost
from actors.core.settings import Settings
from actors.ledger.base import Balance
from actors.ledger.book import ATTEMPTS
from actors.ledger.budget import Budgets, UserLimits
from actors.ledger.reaper import Reaper
from actors.ledger.tables import HOLDS
from actors.ledger.truths import LateTruths
from actors.llm.breakers import BreakerPolicy, Breakers
from actors.llm.chat_request import OPENROUTER_DIALECT
from actors.llm.deadlines import Timeouts
from actors.llm.openai import OpenAIClient
from actors.llm.retries import RetryPolicy
from actors.security.cipher import ClearText
from actors.testing import Reply, ScriptedModelApp
from actors.testing.audits import ListAudit
from actors.testing.memories import DictMemories
from actors.testing.model_server import serving
from actors.testing.sandboxes import FakeSandboxes
from actors.testing.wire_answers import DONE, HEL, STOP, chunk
from actors.wiring.sessions import session_host

USER = "user_1"
TURNS = 10
"""Of each session, one after the other."""

USAGE = chunk(usage="$usage")
ABORTED, ABORTED_EARLY = "aborted", "aborted before the headers"


def _reply(*pieces: bytes) -> dict[str, Any]:
    return {"reply": {"raw": [piece.decode() for piece in pieces], "completion_tokens": 2}}


def _slow(**members: Any) -> dict[str, Any]:
    return {"reply": {"text": ["word "] * 1000, "gap_s": 0.02, **members}}


FAULTS: dict[str, list[dict[str, Any]]] = {
    "error before 200": [{"fixture": f"status_{status}"} for status in (408, 500, 502, 503, 524, 529)],
    "refused": [{"fixture": name} for name in ("status_400", "too_little_credit", "status_403", "daily_quota")],
    "429": [{"fixture": "rate_limited"}],
    "error after 200": [
        {"fixture": name} for name in ("error_chunk", "error_chunk_without_choices", "bare_error", "error_with_200")
    ],
    "silent": [{"fixture": name} for name in ("silent_failure", "partial_unstreamed", "empty_stop", "garbage")],
    "error amid text": [{"fixture": "error_chunk_after_text"}],
    "cut": [{"fixture": name} for name in ("eof_without_finish", "reset_after_tokens", "reset_after_headers")],
    "no headers": [{"fixture": "reset_before_headers"}],
    "stall": [{"fixture": "late_record"}],
    "no usage": [_reply(*HEL, STOP, DONE)],
    "usage twice": [_reply(*HEL, chunk({"content": ""}, "stop", usage="$usage"), USAGE, DONE)],
    "odd cost": [{"fixture": name} for name in ("cost_null", "cost_tiny", "cost_zero")],
    ABORTED: [_slow(), _slow(stops_on_abort=True)],
    ABORTED_EARLY: [_slow(), _slow(stops_on_abort=True)],
}
"""Each is 5 % of all calls; the rest is answered in order."""


class AheadClock(SystemClock):
    """Its now can be put forward: look-ups are due that would be only in days."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class World:
    """Sessions over a ledger, and the model server that they call."""

    def __init__(self, process: Any, home: Path, url: str, app: ScriptedModelApp) -> None:
        self.app = app
        self.database = process.database
        self.ledger = process.ledger
        clock = SystemClock()
        self.client = OpenAIClient(
            base_url=url,
            default_model="scripted",
            dialect=OPENROUTER_DIALECT,
            timeouts=Timeouts(connect_s=20, first_token_s=30, idle_s=0.5, total_s=60),
            retries=RetryPolicy(first_wait_s=0.01, longest_wait_s=0.02),
            breakers=Breakers(BreakerPolicy(min_calls=1_000_000), clock=clock),
        )
        payloads = Payloads(ClearText())
        journal = SqlJournal(self.database, payloads)
        self.book = SessionBook(self.database, payloads, journal, clock)
        self.host = session_host(
            Settings(home=home, llm_base_url=url, llm_dialect="openrouter", model="scripted", delta_interval_s=0),
            journal=journal,
            llm=self.client,
            sandboxes=FakeSandboxes(),
            memories=DictMemories(),
            audit=ListAudit(),
            clock=clock,
            budgets=Budgets(self.ledger, UserLimits(month=10**12), clock=clock, hold_s=600),
        )
        self.clock = AheadClock()
        self.reaper = Reaper(self.ledger, self.database, clock=self.clock)
        self.truths = LateTruths(self.ledger, self.database, self.client, clock=self.clock)

    async def session(self, number: int, says: list[tuple[str, str, str]]) -> None:
        """Turns of one session: what kind each is, the message that brings it about, and its tag."""
        session_id = f"sess_{number}"
        for turn, (kind, content, tag) in enumerate(says):
            command = Submit(
                session_id,
                user_id=USER,
                message_id=f"msg_{number}_{turn}",
                turn_id=f"turn_{number}_{turn}",
                content=content,
                new=NewSession("scripted"),
            )
            while True:
                try:
                    await self.turn(command, kind, tag)
                    break
                except SessionLost:  # what was written of it took too long: it is taken up again, as after a crash
                    continue

    async def turn(self, command: Submit, kind: str, tag: str) -> None:
        await self.host.submit(command)
        if kind == ABORTED:  # by somebody who reads what comes
            await self.host.follow(command.session_id, USER, after=1_000_000, seen={}, wait_s=20)
            await self.host.cancel(command.session_id, USER, command.turn_id)
        elif kind == ABORTED_EARLY:
            while not self.app.tags[tag]:  # noqa: ASYNC110 - counted in another thread
                await asyncio.sleep(0.01)
            await self.host.cancel(command.session_id, USER, command.turn_id)
        await self.host.chat(command, wait_s=60)  # which is the same turn, to its end

    async def late(self) -> None:
        """Look up what is due, until nothing is."""
        while await self.truths.round():
            pass

    async def rows(self, table: sa.Table) -> list[Any]:
        return list(await self.database.read(lambda c: c.execute(sa.select(table)).all()))


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """Thousands of warnings are expected here."""
    with capture_logs() as captured:
        yield captured


@asynccontextmanager
async def opened(process: Any, home: Path) -> AsyncIterator[World]:
    app = ScriptedModelApp(otherwise=Reply(text=("Hel", "lo")))
    with serving(app) as url:
        world = World(process, home, url, app)
        try:
            yield world
        finally:
            await world.client.aclose()


def plan(calls: int) -> list[list[tuple[str, str, str]]]:
    """What is said in each session: of twenty turns one for each fault, in an order that shifts."""
    kinds = [*FAULTS, *["plain"] * (20 - len(FAULTS))]
    variants = {kind: itertools.cycle(replies) for kind, replies in FAULTS.items()}
    said: list[tuple[str, str, str]] = []
    for number in range(calls):
        kind = kinds[(number * 7 + number // 20) % 20]
        tag = f"t{number}"
        content = json.dumps({**next(variants[kind]), "tag": tag}) if kind in variants else f"hello {number}"
        said.append((kind, content, tag))
    return [said[at : at + TURNS] for at in range(0, calls, TURNS)]


@pytest.mark.timeout(3600)  # ten thousand calls, if they are asked for
@pytest.mark.parametrize(("backend", "share"), [("sqlite", 1.0), ("redis+postgresql", 0.25)], indirect=["backend"])
async def test_the_books_are_the_bill_to_the_micro_dollar(
    process: Any, share: float, tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = int(int(pytestconfig.getoption("--bill-calls") or 0) * share)
    monkeypatch.setattr("actors.testing.model_bill._MAX_RECORDS", 10 * calls)
    async with opened(process, tmp_path) as world:
        places = asyncio.Semaphore(32)

        async def one(number: int, says: list[tuple[str, str, str]]) -> None:
            async with places:
                await world.session(number, says)

        async with asyncio.TaskGroup() as group:
            for number, says in enumerate(plan(calls)):
                group.create_task(one(number, says))
        generations = world.app.bill.generations
        async with asyncio.timeout(60):
            while any(made.running for made in generations.values()):  # noqa: ASYNC110 - known in another thread
                await asyncio.sleep(0.01)
        for ahead in (0, 2, 4, 6, 8, 10, 24 * 8):
            world.clock.ahead = timedelta(hours=ahead)
            await world.late()
            await world.reaper.round()
        await check(world, calls)


async def check(world: World, calls: int) -> None:
    bill, attempts = world.app.bill, await world.rows(ATTEMPTS)
    holds = {hold.attempt_id: hold for hold in await world.rows(HOLDS)}
    assert len(attempts) >= calls
    named = {row.generation_id: row for row in attempts if row.generation_id in bill.generations}
    nameless = [row for row in attempts if row.cost_micros is None]

    # Each answer that has a name is on both sides with the same sum, to the last digit.
    for generation_id, row in named.items():
        assert Decimal(row.cost_exact) == (bill.generations[generation_id].cost_usd or 0), dict(row._mapping)
    assert all(row.cost_micros == 0 for row in attempts if row.generation_id is None and row not in nameless)
    unseen = [made.cost_usd or 0 for made in bill.generations.values() if made.id not in named]
    assert sum(Decimal(row.cost_exact) for row in attempts if row.cost_exact) + sum(unseen) == bill.cost_usd
    # What was sent and never named is charged with what was held for it, which is never less than it cost.
    assert all((holds[row.id].state, holds[row.id].charged) == ("expired", holds[row.id].amount) for row in nameless)
    assert sum(unseen) * 1_000_000 <= sum(holds[row.id].charged for row in nameless)
    # Every hold is what its row says, and the buckets and the sessions' totals are their sums.
    assert all(holds[row.id].charged == row.cost_micros for row in attempts if row.cost_micros is not None)
    charged = sum(hold.charged for hold in holds.values())
    bucket = next(name for name in holds[attempts[0].id].buckets.split("\n") if ":m:" in name)
    assert (await world.ledger.balances([bucket]))[bucket] == Balance(charged, 0)
    sessions = {row.session_id for row in attempts}
    totals = [(await world.book.get(session, USER)).spent.cost_micros for session in sessions]
    assert sum(totals) == sum(row.cost_micros or 0 for row in attempts)
    assert all(row.look_at is None for row in attempts)
