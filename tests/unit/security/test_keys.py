"""API keys: what is not exactly a key that was given out gets nobody in."""

import asyncio
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.core.errors import StoreUnavailable, Unauthenticated
from actors.security.keys import (
    ADMIN_USER,
    API_KEYS,
    USERS,
    ApiKeys,
    Principal,
    _checksum,
    _parse,
    ensure_admin_key,
    read_pepper,
    write_secret,
)
from actors.store.database import Database
from actors.testing import FakeClock

CHAT = frozenset({"chat", "sessions:read"})


async def update(database: Database, **values: Any) -> None:
    await database.write(lambda c: c.execute(sa.update(API_KEYS).values(**values)))


async def test_a_key_is_of_its_user_with_its_scopes(keys: ApiKeys) -> None:
    key = await keys.create(user_id="user_1", name="laptop", scopes=CHAT)
    assert re.fullmatch(r"grk_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}", key)
    principal = await keys.check(key)
    assert principal == Principal("user_1", key.split("_")[1], CHAT)


async def test_keys_do_not_repeat(keys: ApiKeys) -> None:
    made = {await keys.create(user_id="user_1", name="n", scopes=CHAT) for _ in range(20)}
    assert len(made) == 20
    assert len({key.split("_")[1] for key in made}) == 20


async def test_the_secret_is_not_in_the_database(keys: ApiKeys, database: Database) -> None:
    key = await keys.create(user_id="user_1", name="laptop", scopes=CHAT)
    secret = key.split("_")[2]
    row = await database.read(lambda c: c.execute(sa.select(API_KEYS)).one())
    assert secret not in repr(tuple(row))
    assert secret[:32] not in repr(tuple(row))
    assert (row.scopes, row.name, len(row.digest)) == ("chat sessions:read", "laptop", 32)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 54), other=st.characters(codec="utf-8"))
def test_a_key_with_one_other_character_is_refused_without_a_look_up(place: int, other: str) -> None:
    key = "grk_0123456789AB_0123456789abcdefghijklmnopqrstuvXXXXXX"
    key = f"{key[:49]}{_checksum(key[4:16] + key[17:49])}"
    assert _parse(key) == (key[4:16], key[17:49])
    changed = key[:place] + other + key[place + 1 :]
    if changed != key:
        with pytest.raises(Unauthenticated):
            _parse(changed)


@pytest.mark.parametrize(
    "key", ["", "grk", "grk__", "Bearer x", "grk_" + "a" * 12 + "_", "ключ", "x" * 100_000, "grk_\x00_\x00"]
)
async def test_what_is_no_key_is_refused(keys: ApiKeys, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(*_: Any) -> None:
        raise AssertionError("junk was looked up")

    monkeypatch.setattr(ApiKeys, "_look_up", forbidden)
    with pytest.raises(Unauthenticated):
        await keys.check(key)


async def test_a_key_that_is_cut_or_continued_is_refused(keys: ApiKeys) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)
    for other in (key[:-1], key + "A", key + "\n", " " + key, key.lower() if key != key.lower() else key.upper()):
        with pytest.raises(Unauthenticated):
            await keys.check(other)


async def test_a_key_of_another_installation_is_unknown(
    keys: ApiKeys, open_database: Callable[..., Database], make_keys: Callable[..., ApiKeys]
) -> None:
    other = make_keys(database=open_database("other"))
    await other.ensure_user("user_1", "Ann")
    with pytest.raises(Unauthenticated, match="not known"):
        await keys.check(await other.create(user_id="user_1", name="n", scopes=CHAT))


async def test_under_another_pepper_no_key_is_known(keys: ApiKeys, make_keys: Callable[..., ApiKeys]) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)
    with pytest.raises(Unauthenticated):
        await make_keys(b"other pepper").check(key)


async def test_the_right_public_part_with_another_secret_is_unknown(keys: ApiKeys) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)
    await keys.check(key)  # now it is in the cache
    public, secret = key.split("_")[1], "0" * 32
    with pytest.raises(Unauthenticated, match="not known"):
        await keys.check(f"grk_{public}_{secret}{_checksum(public + secret)}")


async def test_a_revoked_key_works_at_most_as_long_as_it_is_remembered(
    keys: ApiKeys, database: Database, clock: FakeClock
) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)
    await keys.check(key)
    await update(database, revoked_at=clock.now())
    clock.advance(31)
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="revoked"):
            await keys.check(key)


async def test_an_expired_key_is_refused_at_once(keys: ApiKeys, database: Database, clock: FakeClock) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)
    await update(database, expires_at=clock.now() + timedelta(seconds=10))
    await keys.check(key)
    clock.advance(9)
    await keys.check(key)
    clock.advance(1)  # the cache would hold it for longer
    with pytest.raises(Unauthenticated, match="expired"):
        await keys.check(key)


async def test_a_known_key_is_not_looked_up_each_time(keys: ApiKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)
    await keys.check(key)

    async def forbidden(*_: Any) -> None:
        raise AssertionError("it was looked up again")

    monkeypatch.setattr(ApiKeys, "_look_up", forbidden)
    await keys.check(key)


async def test_a_database_that_does_not_answer_is_not_a_wrong_key(
    keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await keys.create(user_id="user_1", name="n", scopes=CHAT)

    async def down(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Database, "read", down)
    with pytest.raises(StoreUnavailable):
        await keys.check(key)


async def test_a_user_is_made_once(keys: ApiKeys, database: Database) -> None:
    async with asyncio.TaskGroup() as group:
        for name in ("Ann", "Bob"):
            group.create_task(keys.ensure_user("user_1", name))
    rows = await database.read(lambda c: c.execute(sa.select(USERS)).all())
    assert [(row.id, row.name) for row in rows] == [("user_1", "Ann")]


# The admin's key, and the files --------------------------------------------------------------------------


async def test_the_admin_key_stays_the_same_over_restarts(make_keys: Callable[..., ApiKeys], tmp_path: Path) -> None:
    file = tmp_path / "home" / "admin.key"
    first = await ensure_admin_key(make_keys(), file)
    assert await ensure_admin_key(make_keys(), file) == first
    assert file.read_text().strip() == first
    assert await make_keys().check(first) == Principal(ADMIN_USER, first.split("_")[1], frozenset({"admin"}))


@pytest.mark.parametrize("written", [None, "", "junk", "grk_0123456789AB_" + "0" * 38])
async def test_a_missing_or_wrong_admin_key_is_made_anew(
    make_keys: Callable[..., ApiKeys], tmp_path: Path, written: str | None
) -> None:
    file = tmp_path / "admin.key"
    if written is not None:
        file.write_text(written)
    key = await ensure_admin_key(make_keys(), file)
    assert (await make_keys().check(key)).user_id == ADMIN_USER
    assert file.read_text().strip() == key


async def test_with_a_new_database_the_admin_key_is_made_anew(
    make_keys: Callable[..., ApiKeys], open_database: Callable[..., Database], tmp_path: Path
) -> None:
    file = tmp_path / "admin.key"
    old = await ensure_admin_key(make_keys(), file)
    keys = make_keys(database=open_database("new"))
    new = await ensure_admin_key(keys, file)
    assert new != old
    assert (await keys.check(new)).user_id == ADMIN_USER


async def test_an_admin_key_is_not_replaced_because_the_database_is_down(
    make_keys: Callable[..., ApiKeys], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "admin.key"
    key = await ensure_admin_key(make_keys(), file)

    async def down(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Database, "read", down)
    with pytest.raises(StoreUnavailable):
        await ensure_admin_key(make_keys(), file)
    assert file.read_text() == key


def test_the_pepper_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "home" / "pepper"
    pepper = read_pepper(file)
    assert len(pepper) == 64
    assert read_pepper(file) == pepper
    assert read_pepper(tmp_path / "other") != pepper


def test_processes_that_start_at_once_agree_on_the_pepper(tmp_path: Path) -> None:
    barrier = Barrier(8)

    def start(_: int) -> bytes:
        barrier.wait()
        return read_pepper(file)

    for round_ in range(20):
        file = tmp_path / f"pepper{round_}"
        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(start, range(8)))) == 1, "keys that one made would not be known to another"


def test_an_empty_pepper_is_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "pepper"
    file.touch()
    assert read_pepper(file) != b""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_secrets_are_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    file = tmp_path / "home" / "secret"
    before = os.umask(umask)
    try:
        write_secret(file, "first")
        write_secret(file, "second")
    finally:
        os.umask(before)
    assert file.read_text() == "second"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]
