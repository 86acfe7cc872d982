"""API keys: `grk_<12 public>_<32 secret><6 checksum>`, stored as a peppered hash, shown once.

The checksum rejects junk before any look-up, the public part finds the row, and the hash is compared in
constant time. 190 random bits need no slow hash (a slow one would be a way to load the service).
"""

import hmac
import secrets
import zlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.clock import Clock
from ..core.errors import Unauthenticated
from ..store.database import METADATA, Database, Instant

PREFIX = "grk"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PUBLIC, _SECRET, _CHECKSUM = 12, 32, 6

USERS = sa.Table(
    "users",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("scopes", sa.String(500), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what the key allows.

    Scopes: `chat`, `sessions:read`, `sessions:write`, `approvals:resolve`, and `admin`, which is all of them.
    """

    user_id: str
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    digest: bytes
    expires_at: datetime | None
    until: float


ADMIN = "admin"
ADMIN_USER = "user_admin"
"""The first user, under the same id in every installation: notebooks act for it."""


class ApiKeys:
    """Makes and checks keys. A revoked key works for `cache_s` seconds more at most."""

    def __init__(self, database: Database, *, pepper: bytes, clock: Clock, cache_s: float) -> None:
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._cache_s = cache_s
        self._cache: dict[str, _Cached] = {}

    async def create(self, *, user_id: str, name: str, scopes: frozenset[str]) -> str:
        """A new key of a user. What is returned is stored nowhere; lose it and make another."""
        public, secret = _random(_PUBLIC), _random(_SECRET)
        row = {
            "id": public,
            "user_id": user_id,
            "name": name,
            "digest": self._digest(secret),
            "scopes": " ".join(sorted(scopes)),
            "created_at": self._clock.now(),
        }
        await self._database.write(lambda c: c.execute(sa.insert(API_KEYS).values(**row)))
        return f"{PREFIX}_{public}_{secret}{_checksum(public + secret)}"

    async def ensure_user(self, user_id: str, name: str) -> None:
        """Make a user of that id, unless there is one."""

        def work(connection: Connection) -> None:
            if connection.execute(sa.select(USERS.c.id).where(USERS.c.id == user_id)).first() is None:
                connection.execute(sa.insert(USERS).values(id=user_id, name=name, created_at=self._clock.now()))

        await self._database.write(work)

    async def check(self, key: str) -> Principal:
        """Whose key it is. Raises `Unauthenticated` for a key that is malformed, unknown, revoked or expired."""
        public, secret = _parse(key)
        cached = self._cache.get(public)
        if cached is None or cached.until < self._clock.monotonic():
            cached = await self._look_up(public)
        if not hmac.compare_digest(cached.digest, self._digest(secret)):
            raise Unauthenticated("the API key is not known")
        if cached.expires_at is not None and cached.expires_at <= self._clock.now():
            raise Unauthenticated("the API key has expired; make a new one")
        return cached.principal

    async def _look_up(self, public: str) -> _Cached:
        query = sa.select(API_KEYS).where(API_KEYS.c.id == public)
        row = await self._database.read(lambda c: c.execute(query).one_or_none())
        if row is None:
            raise Unauthenticated("the API key is not known")
        if row.revoked_at is not None:
            self._cache.pop(public, None)
            raise Unauthenticated("the API key was revoked")
        principal = Principal(row.user_id, public, frozenset(row.scopes.split()))
        cached = _Cached(principal, row.digest, row.expires_at, self._clock.monotonic() + self._cache_s)
        self._cache[public] = cached
        return cached

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(), "sha256")


async def ensure_admin_key(keys: ApiKeys, file: Path) -> str:
    """The admin's key, from `file`; a new one, written there, when the file's is missing or not valid."""
    key = _read(file)
    if key is not None:
        try:
            await keys.check(key)
        except Unauthenticated:
            pass  # e.g. the database was moved away: a new key, for the same file
        else:
            return key
    await keys.ensure_user(ADMIN_USER, ADMIN)
    key = await keys.create(user_id=ADMIN_USER, name="made by greenroom up", scopes=frozenset({ADMIN}))
    write_secret(file, key)
    return key


def read_pepper(file: Path) -> bytes:
    """The secret that keys are hashed with, made at the first call. Lose it and every key is void."""
    if not (pepper := _read(file)):
        made = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        write_secret(made, secrets.token_hex(32))
        try:
            if pepper == "":
                made.replace(file)  # an empty file is no secret
            else:
                file.hardlink_to(made)  # of processes that start at once, the first one's holds for all
        except FileExistsError:
            pass
        finally:
            made.unlink(missing_ok=True)
        pepper = _read(file)
        assert pepper
    return pepper.encode()


def write_secret(file: Path, value: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    staged.touch(mode=0o600)
    staged.write_text(value)
    staged.replace(file)


def _read(file: Path) -> str | None:
    return file.read_text().strip() if file.exists() else None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        value, digit = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _parse(key: str) -> tuple[str, str]:
    prefix, _, rest = key.partition("_")
    public, _, tail = rest.partition("_")
    secret, checksum = tail[:_SECRET], tail[_SECRET:]
    wellformed = prefix == PREFIX and len(public) == _PUBLIC and len(secret) == _SECRET and key.isascii()
    if not wellformed or checksum != _checksum(public + secret):
        raise Unauthenticated("that is no Greenroom API key; it starts with grk_ and was copied whole?")
    return public, secret
