"""The migrations make the schema that the code describes."""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import actors.agent.tables
import actors.ledger.book
import actors.security.audit
import actors.security.keys
from actors.store.database import METADATA
from actors.store.migrate import HEAD, installed_revision, upgrade

DESCRIBED = (
    actors.agent.tables.SESSIONS,
    actors.ledger.book.ATTEMPTS,
    actors.security.audit.AUDIT,
    actors.security.keys.API_KEYS,
)


def test_tables_and_migrations_agree(server: Any) -> None:
    engine = sa.create_engine(server.url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, METADATA) == []
    finally:
        engine.dispose()


def test_migrating_again_changes_nothing(server: Any) -> None:
    assert upgrade(server.url) == HEAD
    assert installed_revision(server.url) == HEAD
