"""Databases for every suite: one PostgreSQL server of this run's own, and one migration of each kind, to be copied."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.store.migrate import upgrade
from actors.testing.postgres import Postgres

TEMPLATE = "greenroom_template"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Not pytest's own temporary folder, which the server's user cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="greenroom-pg-"))
    server = Postgres(folder)
    server.create()
    try:
        server.sql(f"CREATE DATABASE {TEMPLATE}")
        upgrade(server.url(TEMPLATE))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_postgresql(postgres: Postgres) -> Callable[[], str]:
    """Makes a migrated database of PostgreSQL; its address."""
    numbers = itertools.count(1)

    def make() -> str:
        name = f"greenroom_{next(numbers)}"
        postgres.sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        return postgres.url(name)

    return make


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file of SQLite, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "greenroom.db"
    upgrade(f"sqlite:///{file}")
    return file
