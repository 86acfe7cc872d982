"""All that users wrote passes the cipher, with the same owner and place on the way in and on the way out."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.book import SessionBook
from actors.agent.journal import Profile
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.core.events import Failure, MessageCompleted, SessionCreated, Spent, TurnFailed, TurnStarted
from actors.store.database import METADATA

SECRET = "the user's own words"


class Strict:
    """A cipher that only opens what was sealed for the same owner in the same place."""

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes:
        return self._mark(owner, place) + bytes(byte ^ 0x55 for byte in data)

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:
        mark = self._mark(owner, place)
        assert data.startswith(mark), f"sealed for another owner or place than {owner} at {place}"
        return bytes(byte ^ 0x55 for byte in data[len(mark) :])

    def _mark(self, owner: str, place: str) -> bytes:
        return hashlib.sha256(f"{owner}\0{place}".encode()).digest()


@pytest.fixture
def sealed(process: Any) -> SqlJournal:
    return SqlJournal(process.database, Payloads(Strict()))


async def test_what_was_sealed_is_opened_again_and_nothing_lies_open(
    process: Any, sealed: SqlJournal, writer: Callable[..., Any]
) -> None:
    book = SessionBook(process.database, Payloads(Strict()), sealed, process.clock)
    created = SessionCreated("user_1", "m", SECRET, {"note": SECRET})
    await book.open("sess_1", "user_1", created)
    one = await writer("sess_1", sealed).take_over()
    turn, body = one.accepted()
    failed = TurnFailed(Failure("internal", SECRET), 1, Spent())
    await one.append(
        body,
        TurnStarted(body.message_id, "m"),
        MessageCompleted("msg_a", SECRET, "m", "stop"),
        failed,
        turn=turn,
        profile=Profile(SECRET, SECRET, {"note": SECRET}),
    )
    events = await sealed.read("sess_1", after=0, limit=10)
    assert events[0].body == created
    assert (await sealed.activate("sess_1")).events == events
    row = await book.get("sess_1", "user_1")
    assert (row.title, row.system, row.metadata) == (SECRET, SECRET, {"note": SECRET})
    assert (await book.page("user_1", limit=1, after=None))[0] == (row,)
    assert (await book.turn(turn, "user_1")).outcome == failed

    def everything(connection: sa.Connection) -> bytes:
        rows = [tuple(row) for table in METADATA.tables.values() for row in connection.execute(sa.select(table))]
        return b"".join(value if isinstance(value, bytes) else repr(value).encode() for row in rows for value in row)

    assert SECRET.encode() not in await process.database.read(everything)
