"""What the journal costs: an append beside a bare commit of as many bytes, and the bytes that turns leave behind."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from actors.agent.journal import FIRST_EPOCH, Append, Profile
from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Submit, TurnResult
from actors.agent.sql_journal import SqlJournal
from actors.agent.tables import EVENTS
from actors.core.clock import SystemClock
from actors.core.events import Event, MessageAccepted, SessionCreated, Spent, TurnCompleted, TurnStarted
from actors.core.ids import uuid7_ids
from actors.core.settings import Settings
from actors.security.audit import SqlAudit
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing import ScriptedLLM, calls, says
from actors.testing.memories import DictMemories
from actors.testing.postgres import Postgres
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring import sessions, store

APPENDS = 300
STEPS = (1, 10, 100)
_TEXT = "A message of about a hundred characters, as people write it when they ask for something in a chat."


def append_ms() -> dict[str, dict[str, float]]:
    """One writer, appends of three events, each durable before the next; a bare commit of such a row beside it."""
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as folder:
        lite = asyncio.run(_append(f"sqlite:///{folder}/greenroom.db"))
    with postgres() as server:
        server.sql("CREATE DATABASE bench")
        return {"SQLite": lite, "PostgreSQL": asyncio.run(_append(server.url("bench")))}


@contextmanager
def postgres() -> Iterator[Postgres]:
    # Its user may not enter a folder that is ours alone.
    with tempfile.TemporaryDirectory(prefix="gr-bench-pg-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        server.create()
        try:
            yield server
        finally:
            server.stop()


async def _append(url: str) -> dict[str, float]:
    upgrade(url)
    database = Database(url, pool=4, connect_s=5, statement_s=30)
    clock = SystemClock()
    try:
        journal = SqlJournal(database, Payloads(ClearText()))
        first = Event(1, "s", None, clock.now(), SessionCreated("user", "bench"))
        await journal.append(Append("s", "user", FIRST_EPOCH, 0, (first,), profile=Profile(None, None, {})))

        async def ours(number: int) -> None:
            seq, turn = 1 + 3 * number, f"turn_{number}"
            bodies = (
                MessageAccepted(f"msg_{number}", _TEXT),
                TurnStarted(f"msg_{number}", "bench"),
                TurnCompleted("end_turn", 1, Spent()),
            )
            events = tuple(Event(seq + i + 1, "s", turn, clock.now(), body) for i, body in enumerate(bodies))
            await journal.append(Append("s", "user", FIRST_EPOCH, seq, events))

        def insert(connection: sa.Connection, number: int) -> Any:
            return connection.execute(sa.text("INSERT INTO bare VALUES (:n, :t)"), {"n": number, "t": _TEXT * 4})

        async def bare(number: int) -> None:
            await database.write(lambda c: insert(c, number))

        await database.write(lambda c: c.execute(sa.text("CREATE TABLE bare (n integer primary key, t text)")))
        own, plain = await _p50_ms(ours), await _p50_ms(bare)
    finally:
        database.close()
    return {"p50_ms": own, "bare_commit_p50_ms": plain, "ratio": round(own / plain, 2)}


async def _p50_ms(one: Callable[[int], Any]) -> float:
    times: list[float] = []
    for number in range(APPENDS):
        started = time.perf_counter()
        await one(number)
        times.append(time.perf_counter() - started)
    return round(statistics.median(times) * 1000, 2)


async def bytes_per_turn() -> dict[str, dict[str, float]]:
    """What a turn of so many steps leaves in the journal, each step a tool call with an answer of 1,000 characters."""
    return {f"{steps} steps": await _bytes(steps) for steps in STEPS}


async def _bytes(steps: int) -> dict[str, float]:
    clock = SystemClock()
    new_id = uuid7_ids(clock)
    llm = ScriptedLLM([calls(("remember", {"text": "x" * 1000})) for _ in range(steps - 1)], otherwise=says(_TEXT))
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as home:
        settings = Settings(home=Path(home), turn_max_steps=steps + 1)
        upgrade(settings.resolved_database_url)
        async with store.open_database(settings) as database:
            host = sessions.session_host(
                settings,
                journal=SqlJournal(database, Payloads(ClearText())),
                llm=llm,
                sandboxes=FakeSandboxes(),
                memories=DictMemories(),
                audit=SqlAudit(database, ClearText()),
                clock=clock,
            )
            command = Submit("s", "user", new_id("msg"), new_id("turn"), _TEXT, new=NewSession("scripted"))
            result = await host.chat(command, wait_s=60)
            assert isinstance(result, TurnResult)
            assert result.steps == steps, result
            total = sa.select(sa.func.sum(sa.func.length(EVENTS.c.payload)), sa.func.count())
            size, events = (await database.read(lambda c: c.execute(total).one())).t
    return {"kib": round(size / 1024, 1), "events": events, "kib_per_step": round(size / 1024 / steps, 2)}
