"""A session that saw everything, hosted for real over SQLite; what its clients saw; and ways to break both."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listens_for
from structlog.testing import capture_logs

from actors.agent.book import SessionBook
from actors.agent.host import SessionHost
from actors.agent.orders import Edit, Pause, Resolve, Resume, Withdraw
from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Submit
from actors.agent.sql_journal import SqlJournal
from actors.core.clock import SystemClock
from actors.core.events import Event, HistoryTrimmed, MessageAccepted, SessionCreated, UsageUpdated
from actors.core.ids import NewId
from actors.core.settings import Settings
from actors.llm.base import LLM, TextDelta
from actors.security.cipher import ClearText
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing import FakeClock, ScriptedLLM, calls, says, sequential_ids
from actors.testing.audits import ListAudit
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring.sessions import session_host
from actors.wiring.store import open_database
from cluster.verify import (
    Answered,
    CancelAnswered,
    CancelSent,
    Closed,
    Entry,
    ModelCalls,
    Opened,
    Record,
    Seen,
    Sent,
    SessionEvidence,
    check_history,
    digest,
)
from cluster.verify.journal import JournalReader
from cluster.verify.readers import wire

USER = "user_1"
SESSION = "sess_1"
HANGING = "sleep infinity"
DEADLINE_S = 5.0


class Place:
    """A home folder with a database, and hosts over it as if each were a process."""

    def __init__(self, home: Path, database: Database) -> None:
        # Commands are names in a script here, and no programs.
        anything = {"policy_allowed_commands": ("*",)}
        self.settings = Settings(home=home, delta_interval_s=0, approval_tools=("remember",), **anything)
        self.database = database
        self.clock = FakeClock()
        counted = sequential_ids()
        # Not `call_1`: so models name their calls.
        self.new_id: NewId = lambda kind: f"made_{counted(kind)}"
        self.journal = SqlJournal(database, Payloads(ClearText()))
        self.book = SessionBook(database, Payloads(ClearText()), self.journal, self.clock)
        self.reader = JournalReader(database, ClearText(), SystemClock(), page_events=7)
        self._numbers = itertools.count(1)

    def host(self, llm: LLM, **parts: Any) -> SessionHost:
        made = {
            "journal": self.journal,
            "sandboxes": FakeSandboxes(hanging=[HANGING]),
            "memories": DictMemories(),
            "audit": ListAudit(),
            "clock": self.clock,
            "new_id": self.new_id,
        }
        return session_host(self.settings, llm=llm, **{**made, **parts})

    def says(self, content: str, *, session_id: str = SESSION, **changes: Any) -> Submit:
        number = next(self._numbers)
        made = {"user_id": USER, "message_id": f"msg_u{number}", "turn_id": f"turn_{number}"}
        return Submit(session_id, content=content, new=NewSession("scripted"), **{**made, **changes})

    async def evidence(self, session_id: str = SESSION) -> SessionEvidence:
        found = await self.reader.read(session_id)
        assert found is not None
        return found


async def until(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.001)


async def tell_everything(place: Place) -> None:
    """Tools, an approval, the queue, a steer, an edit, a withdrawal, cancels, a pause, a take-over, a failure."""
    hang = asyncio.Event()
    llm = ScriptedLLM(
        [
            says("Hello."),
            calls(("run_shell", {"command": "ls"}), ("remember", {"text": "tea"}), text="Looking."),
            says("Noted."),
            [TextDelta("half"), hang],
            says("After the cancel."),
            calls(("run_shell", {"command": HANGING})),
        ],
        otherwise=says("Done."),
    )
    host = place.host(llm)
    await host.chat(place.says("hi"), wait_s=DEADLINE_S)
    await _approve_a_tool(place, host)
    await _fill_the_mailbox(place, host, llm)
    await _take_over(place, host)


async def _approve_a_tool(place: Place, host: SessionHost) -> None:
    await host.submit(place.says("remember tea"))

    async def asked() -> bool:
        return (await place.evidence()).session.status == "waiting"

    await until(asked)
    request = next(e for e in reversed((await place.evidence()).events) if e.body.type == "approval.requested")
    await host.submit(place.says("with milk", on_busy="steer"))
    await host.control(SESSION, USER, Resolve(request.body.approval_id, "approve", None, USER))
    await until(lambda: not host.status().running)


async def _fill_the_mailbox(place: Place, host: SessionHost, llm: ScriptedLLM) -> None:
    """While one turn hangs, four wait; it is cancelled, then all of them run or end."""
    hanging = place.says("this hangs")
    await host.submit(hanging)
    await until(lambda: llm.open == 1)
    edited, withdrawn = place.says("edit me"), place.says("withdraw me")
    for waiting in (edited, withdrawn):
        await host.submit(waiting)
    await host.submit(place.says("me first", on_busy="steer"))
    await host.control(SESSION, USER, Edit(edited.message_id, "edited"))
    await host.control(SESSION, USER, Withdraw(withdrawn.message_id))
    await host.cancel(SESSION, USER, hanging.turn_id)
    await until(lambda: host.status().running == 1)


async def _take_over(place: Place, host: SessionHost) -> None:
    """A tool that never ends is running when its host is overtaken; the next host goes on, is paused and resumed."""

    async def tool_runs() -> bool:
        last = (await place.evidence()).events[-1].body
        return last.type == "tool.started"

    await until(tool_runs)
    other = place.host(ScriptedLLM(otherwise=says("Done.")))
    await other.wake(SESSION)
    await until(lambda: not other.status().running)
    await host.drain(grace_s=0)
    await other.control(SESSION, USER, Pause())
    await other.control(SESSION, USER, Resume())
    await other.chat(place.says("and now?"), wait_s=DEADLINE_S)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What was logged; printing it with every local variable takes longer than the test."""
    with capture_logs() as captured:
        yield captured


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema in it, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "greenroom.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def open_place(
    migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractAsyncContextManager[Place]]:
    """Places, each with a database of its own, unless a home is given."""

    @asynccontextmanager
    async def open_place(home: Path | None = None) -> AsyncIterator[Place]:
        if home is None:
            home = tmp_path_factory.mktemp("home")
            shutil.copy(migrated, home / "greenroom.db")
        async with open_database(Settings(home=home)) as database:
            _spare_the_disk(database)
            yield Place(home, database)

    return open_place


def _spare_the_disk(database: Database) -> None:
    @listens_for(database.engine, "connect")
    def _off(connection: Any, record: Any) -> None:  # pyright: ignore[reportUnusedFunction] # called by its event
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session")
def told_home(open_place: Callable[..., AbstractAsyncContextManager[Place]]) -> tuple[Path, SessionEvidence]:
    """A home folder whose database holds the session that saw everything, and that session."""

    async def tell() -> tuple[Path, SessionEvidence]:
        async with open_place() as place:
            await tell_everything(place)
            return place.settings.home_dir, await place.evidence()

    return asyncio.run(tell())


@pytest.fixture(scope="session")
def good(told_home: tuple[Path, SessionEvidence]) -> SessionEvidence:
    return told_home[1]


@pytest.fixture(scope="session")
def trimmed(good: SessionEvidence) -> SessionEvidence:
    """The same, of which the first three turns were trimmed."""
    assert good.session is not None
    assert good.turns is not None
    first_left = next(event.seq for event in good.events if event.turn_id == "turn_4")
    gone = good.events[: first_left - 1]
    spent = [event.body.session for event in gone if isinstance(event.body, UsageUpdated)][-1]
    created, moment = gone[0].body, gone[-1].created_at
    assert isinstance(created, SessionCreated)
    summary = HistoryTrimmed(created, "hi", 3, 3, moment, moment, spent)
    stub = replace(gone[-1], turn_id=None, body=summary)
    return replace(
        good,
        events=(stub, *good.events[first_left - 1 :]),
        session=replace(good.session, oldest_seq=stub.seq),
        turns=tuple(row for row in good.turns if row.id not in ("turn_1", "turn_2", "turn_3")),
    )


# What clients saw of it ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def good_log(good: SessionEvidence) -> tuple[Record, ...]:
    """What clients of that session wrote down, when nothing went wrong."""
    return (*_sending(good), *_reading(good), *_cancelling(good), *_counting(good))


def _sending(session: SessionEvidence) -> list[Record]:
    written: list[Record] = []
    for event in session.events:
        if isinstance(event.body, MessageAccepted):
            name, body = f"r{event.seq}", digest({"message": event.body.content})
            ids = {"session_id": session.session_id, "turn_id": event.turn_id, "message_id": event.body.message_id}
            written.append(Sent(name, event.body.content, session.session_id, key=f"k{event.seq}", body=body))
            written.append(Answered(name, 202, **ids, seq=event.seq))
    return written


def _reading(session: SessionEvidence) -> list[Record]:
    """One reads all and is cut off in the middle; one reads a turn; one the pages, of the first events alone."""
    half = len(session.events) // 2
    turn = [event for event in session.events if event.turn_id == "turn_2"]
    return [
        Opened("c1", "anna", session.session_id, 0),
        *(_seen("c1", event) for event in session.events[:half]),
        Closed("c1", error="ReadError"),
        Opened("c2", "anna", session.session_id, half),
        *(_seen("c2", event) for event in session.events[half:]),
        Opened("c3", "ben", session.session_id, turn[0].seq - 1, turn_id="turn_2"),
        *(_seen("c3", event) for event in turn),
        Closed("c3", ended=True),
        Opened("c4", "carl", session.session_id, 0),
        *(_seen("c4", event) for event in session.events[:5]),
        Closed("c4", ended=True),
    ]


def _seen(connection: str, event: Event) -> Seen:
    return Seen(connection, event.seq, event.body.type, digest(wire(event)))


def _cancelling(session: SessionEvidence) -> list[Record]:
    return [CancelSent("x1", session.session_id, "turn_4"), CancelAnswered("x1", 200, "cancelled")]


def _counting(session: SessionEvidence) -> list[Record]:
    assert session.attempts is not None
    turns = {attempt.turn_id for attempt in session.attempts}
    return [
        ModelCalls(turn, sum(one.kind == "model" and one.turn_id == turn for one in session.attempts))
        for turn in sorted(turns)
    ]


@pytest.fixture(scope="session")
def entries() -> Callable[..., list[Entry]]:
    """Records as entries, a hundredth of a second apart."""

    def entries(records: Iterable[Record], *, apart_s: float = 0.01) -> list[Entry]:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return [Entry(n * apart_s, start + timedelta(seconds=n * apart_s), one) for n, one in enumerate(records)]

    return entries


@pytest.fixture
def find(entries: Callable[..., list[Entry]]) -> Callable[..., set[tuple[str, str]]]:
    """Promise and rule of everything that the checker finds."""

    def find(
        session: SessionEvidence | Sequence[SessionEvidence],
        log: Iterable[Record] = (),
        *,
        settled: bool = True,
        apart_s: float = 0.01,
    ) -> set[tuple[str, str]]:
        sessions = [session] if isinstance(session, SessionEvidence) else session
        found = check_history(sessions, client_log=entries(log, apart_s=apart_s), settled=settled)
        for violation in found:
            assert violation.says[0].isupper(), violation
            assert violation.says.endswith("."), violation
            assert any(character.isdigit() for character in violation.says), f"no figures: {violation}"
        return {(violation.promise, violation.rule) for violation in found}

    return find


# Ways to break it ---------------------------------------------------------------------------------------


class Tamper:
    """Changed copies of a session. Numbers and the row's last number are mended, unless it says otherwise."""

    def at(self, session: SessionEvidence, type_name: str, nth: int = 0, *, turn_id: str | None = None) -> Event:
        """The nth event of this type."""
        found = [e for e in session.events if e.body.type == type_name and turn_id in (None, e.turn_id)]
        return found[nth]

    def without(self, session: SessionEvidence, *events: Event) -> SessionEvidence:
        return self.mended(session, [event for event in session.events if event not in events])

    def inserted(self, session: SessionEvidence, after: Event, body: Any, turn_id: str | None) -> SessionEvidence:
        at = session.events.index(after) + 1
        new = Event(0, session.session_id, turn_id, after.created_at, body)
        return self.mended(session, [*session.events[:at], new, *session.events[at:]])

    def repeated(self, session: SessionEvidence, event: Event, *, after: Event | None = None) -> SessionEvidence:
        return self.inserted(session, after or event, event.body, event.turn_id)

    def swapped(self, session: SessionEvidence, one: Event, other: Event) -> SessionEvidence:
        swap = {one.seq: other, other.seq: one}
        return self.mended(session, [swap.get(event.seq, event) for event in session.events])

    def changed(self, session: SessionEvidence, event: Event, /, **members: Any) -> SessionEvidence:
        new = replace(event, body=replace(event.body, **members))
        return replace(session, events=tuple(new if one is event else one for one in session.events))

    def mended(self, session: SessionEvidence, events: Sequence[Event]) -> SessionEvidence:
        numbered = tuple(replace(event, seq=number) for number, event in enumerate(events, 1))
        assert session.session is not None
        return replace(session, events=numbered, session=replace(session.session, last_seq=len(numbered)))

    def row(self, session: SessionEvidence, /, **members: Any) -> SessionEvidence:
        assert session.session is not None
        return replace(session, session=replace(session.session, **members))

    def turn_row(self, session: SessionEvidence, turn_id: str, **members: Any) -> SessionEvidence:
        assert session.turns is not None
        return replace(session, turns=tuple(replace(r, **members) if r.id == turn_id else r for r in session.turns))

    def attempt(self, session: SessionEvidence, nth: int, **members: Any) -> SessionEvidence:
        assert session.attempts is not None
        changed = [replace(one, **members) if at == nth else one for at, one in enumerate(session.attempts)]
        return replace(session, attempts=tuple(changed))


@pytest.fixture(scope="session")
def tamper() -> Tamper:
    return Tamper()
