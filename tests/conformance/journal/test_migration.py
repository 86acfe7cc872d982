"""A database of the first release, with rows in it, is brought to this one: nothing is lost, and all goes on."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import actors.store.migrate
from actors.agent.book import SessionBook
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.agent.state import SessionState
from actors.core.events import HistoryTrimmed, MessageAccepted, SessionCreated
from actors.ledger.book import attempts_of
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.store.migrate import HEAD, installed_revision, upgrade
from actors.testing import FakeClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPENT = {
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 0, "reasoning_tokens": 0},
    "cost_micros": 7,
    "cost_known": True,
}


def micros(seconds: float) -> int:
    return round((NOW - datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).total_seconds() * 1_000_000)


def turn(number: int, *, ends: bool = True) -> list[tuple[str | None, dict[str, Any]]]:
    """What the first release wrote of a turn: members that came later are not there."""
    turn_id, message_id = f"turn_{number}", f"msg_{number}"
    bodies: list[dict[str, Any]] = [
        {"type": "message.accepted", "message_id": message_id, "content": f"message {number}", "model": None},
        {"type": "turn.started", "message_id": message_id, "model": "m"},
    ]
    if ends:
        bodies += [
            {
                "type": "message.completed",
                "message_id": f"ans_{number}",
                "content": "yes",
                "model": "m",
                "finish_reason": "stop",
            },
            {"type": "usage.updated", "attempt_id": f"att_{number}", "model": "m", "spent": SPENT, "session": SPENT},
            {"type": "turn.completed", "stop_reason": "end_turn", "steps": 1, "spent": SPENT},
        ]
    return [(turn_id, body) for body in bodies]


CREATED = {"type": "session.created", "user_id": "user_1", "model": "m", "system": "Be brief.", "metadata": {"a": 1}}
EVENTS = [(None, CREATED), *turn(1), *turn(2), *turn(3, ends=False)]


def fill(url: str) -> None:
    """A session of three turns, the last of which was cut off."""
    engine = sa.create_engine(url)
    old = sa.MetaData()
    old.reflect(engine)
    table = old.tables
    profile = {"title": "message 1", "system": "Be brief.", "metadata": {"a": 1}}
    session = {
        "id": "sess_1", "user_id": "user_1", "epoch": 3, "last_seq": len(EVENTS), "model": "m", "status": "running",
        "profile": json.dumps(profile).encode(), "prompt_tokens": 20, "cost_micros": 14, "created_at": micros(0),
        "updated_at": micros(len(EVENTS)),
    }  # fmt: skip
    events = [
        {
            "session_id": "sess_1", "seq": at + 1, "turn_id": turn_id, "type": body["type"], "created_at": micros(at),
            "payload": json.dumps(body).encode(),
        }
        for at, (turn_id, body) in enumerate(EVENTS)
    ]  # fmt: skip
    turns = [
        {
            "id": f"turn_{number}", "session_id": "sess_1", "user_id": "user_1", "message_id": f"msg_{number}",
            "status": "running" if number == 3 else "completed", "created_at": micros(5 * number - 4),
            "finished_at": None if number == 3 else micros(5 * number),
            "outcome": None if number == 3 else json.dumps(turn(number)[-1][1]).encode(),
        }
        for number in (1, 2, 3)
    ]  # fmt: skip
    attempt = {
        "id": "att_3", "turn_id": "turn_3", "session_id": "sess_1", "user_id": "user_1", "state": "dispatched",
        "model": "m", "started_at": micros(12),
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(table["sessions"].insert(), session)
        connection.execute(table["events"].insert(), events)
        connection.execute(table["turns"].insert(), turns)
        connection.execute(table["attempts"].insert(), attempt)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database as the first release left it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
    else:
        postgres = request.getfixturevalue("postgres")
        postgres.sql("DROP DATABASE IF EXISTS greenroom_old WITH (FORCE)")
        postgres.sql("CREATE DATABASE greenroom_old")
        url = postgres.url("greenroom_old")
    config = Config()
    config.set_main_option("script_location", str(Path(actors.store.migrate.__file__).parent / "migrations"))
    config.attributes["database_url"] = url
    command.upgrade(config, "0001")
    fill(url)
    assert upgrade(url) == "0001"
    assert installed_revision(url) == HEAD
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool=3, connect_s=3, statement_s=10)
    yield database
    database.close()


@pytest.fixture
def journal(database: Database) -> SqlJournal:
    return SqlJournal(database, Payloads(ClearText()))


@pytest.fixture
def book(database: Database, journal: SqlJournal) -> SessionBook:
    return SessionBook(database, Payloads(ClearText()), journal, FakeClock())


async def test_what_was_written_is_read(database: Database, journal: SqlJournal, book: SessionBook) -> None:
    row = await book.get("sess_1", "user_1")
    assert (row.title, row.oldest_seq, row.last_seq, row.spent.cost_micros, row.fingerprint) == (
        *("message 1", 1, 13, 14, None),
    )
    events = await journal.read("sess_1", after=0, limit=100)
    assert events[0].body == SessionCreated("user_1", "m", "Be brief.", {"a": 1}, approvals=(), forked_from=None)
    assert events[1].body == MessageAccepted("msg_1", "message 1", on_busy="enqueue", fingerprint=None)
    assert [a.state for a in await database.read(lambda c: attempts_of(c, "sess_1"))] == ["dispatched"]


async def test_the_turn_that_was_cut_off_goes_on(journal: SqlJournal) -> None:
    assert await journal.unfinished(limit=10) == ("sess_1",)
    activation = await journal.activate("sess_1")
    state = SessionState("sess_1")
    for event in activation.events:
        state.apply(event)
    assert (activation.epoch, activation.open_attempts, list(state.turns)) == (4, {"turn_3": ("att_3",)}, ["turn_3"])


async def test_turns_say_where_their_messages_stand(book: SessionBook) -> None:
    found = [await book.turn(f"turn_{number}", "user_1") for number in (1, 2, 3)]
    assert [turn.accepted_seq for turn in found] == [2, 7, 12]
    assert [turn.fingerprint for turn in found] == [None] * 3


async def test_a_trim_takes_the_turns_of_what_it_cuts_and_no_others(
    database: Database, journal: SqlJournal, book: SessionBook
) -> None:
    ended = sa.text("UPDATE sessions SET status = 'idle'")
    await database.write(lambda c: c.execute(ended))
    assert await journal.trim(NOW + timedelta(seconds=8), limit=10) == 1
    events = await journal.read("sess_1", after=0, limit=100)
    assert (events[0].seq, type(events[0].body)) == (6, HistoryTrimmed)
    assert [(await book.turn(f"turn_{number}", "user_1")).status for number in (2, 3)] == ["completed", "running"]
    assert await book.turn_of_message("sess_1", "msg_1") is None
