"""API keys over a SQLite database of the test's own."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from actors.security.keys import ApiKeys
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing import FakeClock

# For a night: pytest --hypothesis-profile=shell-night tests/unit/security/test_commands_against_bash.py
settings.register_profile("shell-night", max_examples=20_000)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "greenroom.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
async def open_database(tmp_path: Path, migrated: Path) -> AsyncIterator[Callable[[str], Database]]:
    """A migrated database by name; the same name again is the same one."""
    opened: list[Database] = []

    def open_database(name: str = "greenroom") -> Database:
        file = tmp_path / f"{name}.db"
        if not file.exists():
            shutil.copy(migrated, file)
        opened.append(Database(f"sqlite:///{file}", pool=2, connect_s=5, statement_s=5))
        return opened[-1]

    yield open_database
    for database in opened:
        database.close()


@pytest.fixture
def database(open_database: Callable[..., Database]) -> Database:
    return open_database()


@pytest.fixture
async def make_keys(database: Database, clock: FakeClock) -> Callable[..., Any]:
    def make_keys(pepper: bytes = b"pepper", *, cache_s: float = 30, database: Database = database) -> ApiKeys:
        return ApiKeys(database, pepper=pepper, clock=clock, cache_s=cache_s)

    return make_keys


@pytest.fixture
async def keys(make_keys: Callable[..., ApiKeys]) -> ApiKeys:
    keys = make_keys()
    await keys.ensure_user("user_1", "Ann")
    return keys
