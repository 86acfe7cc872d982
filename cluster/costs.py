"""`greenroom costs`: a report out of the database of the settings, printed or written to a file."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from actors.agent.book import SessionBook
from actors.agent.cost_reports import Asked, Report
from actors.agent.payloads import Payloads
from actors.agent.sql_journal import SqlJournal
from actors.core.clock import Clock, SystemClock
from actors.core.errors import GreenroomError
from actors.core.settings import Settings
from actors.ledger.costs import GroupBy
from actors.ledger.periods import Period
from actors.security.cipher import ClearText
from actors.wiring.costs import cost_reports
from actors.wiring.models import open_llm
from actors.wiring.store import open_database
from serve_app import cost_export, cost_present

from . import cost_table
from .environment import WrongSettings, read_settings
from .verify import since as ages

SHOWN, FAILED = 0, 2
"""Exit codes."""

_PRINTED = Path("-")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    home: Path | None
    period: Period
    group_by: GroupBy
    since: str | None
    user: str | None
    limit: int


class _Told(Exception):
    """It cannot be done, and the message is for the user. Never leaves this file."""


def run(wanted: Wanted, *, as_json: bool, csv: Path | None, parquet: Path | None) -> int:
    """Print or write it; the exit code."""
    try:
        if parquet == _PRINTED:
            raise _Told("--parquet: Parquet is no text; name a file.")
        made = asyncio.run(_made(wanted, SystemClock(), advice=csv is None and parquet is None))
        files: dict[cost_export.Format, Path | None] = {"csv": csv, "parquet": parquet}
        for form, file in files.items():
            if file is not None:
                _write(made, form, file)
    except (_Told, WrongSettings) as error:
        Console(stderr=True).print(str(error), style="red", soft_wrap=True, markup=False, highlight=False)
        return FAILED
    if as_json:
        sys.stdout.write(cost_present.report(made).model_dump_json(indent=2) + "\n")
    elif csv is None and parquet is None:
        cost_table.show(Console(), made)
    return SHOWN


async def _made(wanted: Wanted, clock: Clock, *, advice: bool) -> Report:
    settings = read_settings(home=wanted.home)
    _check_file(settings)
    try:
        since = None if wanted.since is None else ages.moment(wanted.since, clock.now())
    except ValueError as error:
        raise _Told(f"--since: {error}.") from error
    asked = Asked(wanted.user, wanted.period, wanted.group_by, since, limit=wanted.limit, advice=advice)
    try:
        async with open_database(settings) as database, open_llm(settings, clock) as llm:
            payloads = Payloads(ClearText())
            book = SessionBook(database, payloads, SqlJournal(database, payloads), clock)
            return await cost_reports(settings, database, book, llm, clock).report(asked)
    except GreenroomError as error:
        raise _Told(f"{error.message[0].upper()}{error.message[1:]}.{_hint(error)}") from error
    except SQLAlchemyError as error:
        raise _Told(f"The database cannot be read: {str(error).splitlines()[0]}.{_OLD}") from error


_OLD = " If its schema is an older one, `greenroom up` brings it up to date."


def _hint(error: GreenroomError) -> str:
    return _OLD if "no such" in error.message else ""


def _check_file(settings: Settings) -> None:
    """SQLite makes a file that is not there, and then nothing was ever spent."""
    url = make_url(settings.resolved_database_url)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).is_file()):
        raise _Told(f"There is no database {url.database}; `greenroom up` makes one. Or give another --home.")


def _write(made: Report, form: cost_export.Format, file: Path) -> None:
    content = cost_export.exported(made, form)
    if file == _PRINTED:
        sys.stdout.write(content.decode())
        return
    try:
        file.write_bytes(content)
    except OSError as error:
        raise _Told(f"{file} cannot be written: {error.strerror}.") from error
    rows = len(cost_export.table(made).rows)
    Console(stderr=True).print(f"{file}: {rows} lines.", markup=False, highlight=False)
