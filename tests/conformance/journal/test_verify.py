"""The history checker on every database: what is there, while it changes, and when it is out of reach."""

import asyncio
import io
import itertools
import json
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console

from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Submit
from actors.agent.sql_journal import SqlJournal
from actors.core.clock import SystemClock
from actors.core.settings import Settings
from actors.security.audit import SqlAudit
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.testing import ScriptedLLM, calls, says
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring.sessions import session_host
from actors.wiring.store import open_database
from cluster.verify import check_history
from cluster.verify.command import CLEAN, UNREADABLE, VIOLATED, Scope, run
from cluster.verify.journal import JournalReader

SESSIONS = 3
TURNS = 8


@pytest.fixture
def settings(server: Any) -> Settings:
    return Settings(database_url=server.url, database_connect_s=2, database_statement_s=2, delta_interval_s=0)


async def talk(settings: Settings, database: Database, enough: asyncio.Event | None = None) -> None:
    """Some sessions at once, each with some turns and tools, or with turns until there are `enough`."""
    looks = calls(("run_shell", {"command": "ls"}))
    host = session_host(
        settings,
        journal=SqlJournal(database, Payloads(ClearText())),
        llm=ScriptedLLM([looks, says("a"), looks, says("b")], otherwise=says("ok")),
        sandboxes=FakeSandboxes(),
        memories=DictMemories(),
        audit=SqlAudit(database, ClearText()),
        clock=SystemClock(),
    )

    async def speak(name: str) -> None:
        for number in itertools.count() if enough else range(TURNS):
            if enough and enough.is_set():
                return
            ids = {"message_id": f"msg_{name}_{number}", "turn_id": f"turn_{name}_{number}"}
            said = Submit(f"sess_{name}", "user_1", content=f"{number}", new=NewSession("scripted"), **ids)
            await host.chat(said, wait_s=10)

    async with asyncio.TaskGroup() as group:
        for number in range(SESSIONS):
            group.create_task(speak(str(number)))


@pytest.fixture
def talked(settings: Settings) -> None:
    async def all_of_it() -> None:
        async with open_database(settings) as database:
            await talk(settings, database)

    asyncio.run(all_of_it())


def verify(settings: Settings) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    code = run(Console(file=out), settings, Scope(settled=True), as_json=True)
    return code, json.loads(out.getvalue() or "{}")


def test_a_good_history(settings: Settings, talked: None) -> None:
    code, summary = verify(settings)
    assert (code, summary["violations"]) == (CLEAN, [])
    assert (summary["sessions"], summary["turns"]) == (SESSIONS, SESSIONS * TURNS)


def test_a_broken_one(settings: Settings, talked: None, server: Any) -> None:
    engine = sa.create_engine(server.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM events WHERE session_id = 'sess_1' AND type = 'turn.completed'"))
    engine.dispose()
    code, summary = verify(settings)
    assert code == VIOLATED
    assert {violation["session_id"] for violation in summary["violations"]} == {"sess_1"}
    assert summary["by_promise"]["P4"] == TURNS - 1, "behind the last one there is no gap"
    assert summary["by_promise"]["P2"] >= 1


async def test_a_history_that_is_being_written_is_never_reported_wrongly(settings: Settings) -> None:
    lengths: set[int] = set()
    enough = asyncio.Event()
    async with open_database(settings) as database, asyncio.timeout(30):
        reader = JournalReader(database, ClearText(), SystemClock(), page_events=5)
        async with asyncio.TaskGroup() as group:
            group.create_task(talk(settings, database, enough))
            while len(lengths) < 20:
                async for session_id in reader.session_ids():
                    evidence = await reader.read(session_id)
                    assert evidence is not None
                    assert check_history([evidence]) == ()
                    lengths.add(len(evidence.events))
            enough.set()


def test_a_database_that_is_out_of_reach(settings: Settings, talked: None, server: Any) -> None:
    """On SQLite a writer that holds on to its lock keeps no reader out."""
    server.stop()
    assert verify(settings)[0] == (CLEAN if server.url.startswith("sqlite") else UNREADABLE)
