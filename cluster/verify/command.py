"""`greenroom verify --history`: check what the cluster's database holds, session by session."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from actors.core.clock import Clock, SystemClock
from actors.core.errors import StoreUnavailable
from actors.core.events import MessageAccepted
from actors.core.settings import Settings
from actors.security.cipher import ClearText
from actors.wiring.store import open_database

from . import since as ages
from .checker import HistoryChecker, Terms
from .client_log import Entry, read_client_logs
from .journal import JournalReader, KeepsChanging
from .summary import Summary, print_summary

CLEAN, VIOLATED, UNREADABLE = 0, 1, 2
"""Exit codes."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What to check: `since` an age or a date, or one session; against which client logs; and how strictly."""

    since: str | None = None
    session_id: str | None = None
    settled: bool = False
    client_logs: tuple[Path, ...] = ()
    cancel_s: float = 15.0


class CannotRead(Exception):
    """The history, or a client log, cannot be read; the message says what would help."""


def run(console: Console, settings: Settings, scope: Scope, *, as_json: bool) -> int:
    """Check, print, and return the exit code. Progress goes to standard error."""
    errors = Console(stderr=True)
    try:
        summary = asyncio.run(_verified(settings, scope, SystemClock(), None if as_json else errors))
    except CannotRead as error:
        errors.print(str(error), style="red", soft_wrap=True, markup=False, highlight=False)
        return UNREADABLE
    if as_json:
        console.print_json(json.dumps(summary.as_json()))
    else:
        print_summary(console, summary)
    return VIOLATED if summary.violations else CLEAN


async def _verified(settings: Settings, scope: Scope, clock: Clock, progress: Console | None) -> Summary:
    # First the log, then the journal: what a client saw before it was read is then in the journal.
    entries, since = _client_log(scope.client_logs), _since(scope.since, clock)
    _check_file(settings)
    try:
        checker = HistoryChecker(entries, Terms(scope.settled, scope.cancel_s, whole=scope.session_id is None))
    except ValueError as error:
        raise CannotRead(str(error)) from error
    try:
        async with open_database(settings) as database:
            reader = JournalReader(database, ClearText(), clock)
            return await _Verification(reader, checker, Summary(scope.settled)).run(scope.session_id, since, progress)
    except (StoreUnavailable, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        is_reached = "no such" in reason or isinstance(error, SQLAlchemyError)
        hint = " If its schema is an older one, `greenroom up` brings it up to date." if is_reached else ""
        raise CannotRead(f"The history in {_shown(settings)} cannot be read: {reason}.{hint}") from error


class _Verification:
    def __init__(self, reader: JournalReader, checker: HistoryChecker, summary: Summary) -> None:
        self._reader = reader
        self._checker = checker
        self._summary = summary

    async def run(self, session_id: str | None, since: datetime | None, console: Console | None) -> Summary:
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
        hidden = console is None or not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
            total = 1 if session_id is not None else await self._reader.count(since)
            task = progress.add_task("Checking sessions", total=total)
            async for one in self._chosen(session_id, since):
                found = await self._check(one)
                if session_id is not None and not found:
                    raise CannotRead(f"There is no session {session_id}.")
                progress.advance(task)
            # Sessions that a client knows of, and that were outside of what was asked for.
            for one in sorted(self._checker.unchecked) if session_id is None else ():
                await self._check(one)
        self._summary.violations += self._checker.finish()
        return self._summary

    async def _chosen(self, session_id: str | None, since: datetime | None) -> AsyncIterator[str]:
        if session_id is not None:
            yield session_id
            return
        async for one in self._reader.session_ids(since):
            yield one

    async def _check(self, session_id: str) -> bool:
        summary = self._summary
        try:
            evidence = await self._reader.read(session_id)
        except KeepsChanging:
            summary.changing.append(session_id)
            self._checker.leave_out(session_id)
            return True
        if evidence is None:
            return False
        summary.sessions += 1
        summary.events += len(evidence.events)
        summary.turns += sum(isinstance(event.body, MessageAccepted) for event in evidence.events)
        summary.violations += self._checker.check(evidence)
        return True


def _client_log(paths: Sequence[Path]) -> tuple[Entry, ...]:
    try:
        return read_client_logs(paths)
    except (OSError, ValueError) as error:
        raise CannotRead(f"A client log cannot be read: {error}") from error


def _since(text: str | None, clock: Clock) -> datetime | None:
    try:
        return None if text is None else ages.moment(text, clock.now())
    except ValueError as error:
        raise CannotRead(f"--since: {error}.") from error


def _check_file(settings: Settings) -> None:
    """SQLite makes a file that is not there, and then holds nothing against anybody."""
    url = make_url(settings.resolved_database_url)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        raise CannotRead(f"There is no database {url.database}; `greenroom up` makes one. Or give another --home.")


def _shown(settings: Settings) -> str:
    return make_url(settings.resolved_database_url).render_as_string(hide_password=True)
