"""Bring a database to this version's schema with Alembic."""

from pathlib import Path

from sqlalchemy import create_engine, inspect, text

HEAD = "0008"
"""The newest revision. A test checks that it is."""


def upgrade(database_url: str) -> str | None:
    """Run the migrations that are missing. Returns the revision that was there before, None if none was.

    Raises SQLAlchemy's errors: this runs at start-up, where the operator reads them.
    """
    _set_mode(database_url)
    before = installed_revision(database_url)
    if before != HEAD:
        _run(database_url)
    return before


def _set_mode(database_url: str) -> None:
    """SQLite: write-ahead logging, before several processes open the file; changing it later locks all of them out."""
    engine = create_engine(database_url)
    try:
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    finally:
        engine.dispose()


def installed_revision(database_url: str) -> str | None:
    """The revision of the schema that is installed, None for an empty database."""
    engine = create_engine(database_url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    finally:
        engine.dispose()


def _run(database_url: str) -> None:
    # Alembic takes 0.3 s to import, and almost every start finds nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["database_url"] = database_url
    command.upgrade(config, HEAD)
