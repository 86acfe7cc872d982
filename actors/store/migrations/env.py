"""Alembic's entry: it runs against the address that `migrate.upgrade` was given."""

from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.attributes["database_url"])
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
