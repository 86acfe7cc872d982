"""The tables that the code describes are those that the migrations make."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import actors.agent.tables
import actors.ledger.book
import actors.ledger.corrections
import actors.ledger.tables
import actors.security.audit
import actors.security.keys
from actors.store import migrate
from actors.store.database import METADATA

ROOT = Path(__file__).parents[2]
DESCRIBED = {
    **{
        table.name: table
        for table in (
            actors.agent.tables.SESSIONS,
            actors.agent.tables.EVENTS,
            actors.agent.tables.TURNS,
            actors.agent.tables.APPROVALS,
        )
    },
    **{
        table.name: table
        for table in (
            actors.ledger.book.ATTEMPTS,
            actors.ledger.corrections.CORRECTIONS,
            actors.ledger.tables.HOLDS,
            actors.ledger.tables.BUCKETS,
            actors.ledger.tables.ALERTS,
            actors.security.audit.AUDIT,
            actors.security.keys.USERS,
            actors.security.keys.API_KEYS,
        )
    },
}


@pytest.fixture
def migrated(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'greenroom.db'}"
    assert migrate.upgrade(url) is None
    return url


def test_the_described_tables_are_all_there_are() -> None:
    assert set(METADATA.tables) == set(DESCRIBED)


def test_a_migrated_database_is_as_described(migrated: str) -> None:
    engine = sa.create_engine(migrated)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, METADATA) == []
    finally:
        engine.dispose()


def test_the_named_revision_is_the_newest(migrated: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "actors" / "store" / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [migrate.HEAD]
    assert migrate.installed_revision(migrated) == migrate.HEAD
    assert migrate.upgrade(migrated) == migrate.HEAD
