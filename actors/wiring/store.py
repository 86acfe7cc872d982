"""The database and what stands on it alone."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import make_url

from ..agent.payloads import Payloads
from ..agent.sql_journal import SqlJournal
from ..core.clock import Clock
from ..core.settings import Settings, read_secret_file
from ..security.cipher import ClearText
from ..security.keys import ApiKeys, read_pepper
from ..store.database import Database


def database_address(settings: Settings) -> str:
    """The address with its password, for this process alone. Raises OSError when the file of the password is not there.

    Only the password of the address is replaced, and only when a file has one.
    """
    file = settings.database_password_path
    if file is None:
        return settings.resolved_database_url
    url = make_url(settings.resolved_database_url).set(password=read_secret_file(file))
    return url.render_as_string(hide_password=False)


def make_database(settings: Settings) -> Database:
    """Connects to nothing yet; close it in the end."""
    return Database(
        database_address(settings),
        pool=settings.database_pool,
        connect_s=settings.database_connect_s,
        statement_s=settings.database_statement_s,
    )


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    database = make_database(settings)
    try:
        yield database
    finally:
        database.close()


@asynccontextmanager
async def open_journal(settings: Settings) -> AsyncGenerator[SqlJournal]:
    async with open_database(settings) as database:
        yield SqlJournal(database, Payloads(ClearText()))


def api_keys(settings: Settings, database: Database, clock: Clock) -> ApiKeys:
    return ApiKeys(database, pepper=read_pepper(settings.pepper_file), clock=clock, cache_s=settings.api_key_cache_s)
