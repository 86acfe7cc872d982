"""`ObjectStore` by obstore: a folder, S3 and what speaks like it, or this process's memory.

Credentials are read by obstore itself from the names that every S3 client knows (`AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`) or from the machine's role: they pass through no setting.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore, S3Store

from ..core.errors import InvalidInput, StoreUnavailable
from .objects import ObjectInfo, ObjectStore, checked_key

PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_PIECE_BYTES = 1024 * 1024
_RETRIES = 3

_obstore: Any = obstore
"""Its annotations of listings know of Arrow, which is not asked for: seen through `Any`."""

_ADDRESS = "see that GREENROOM_OBJECT_STORE_URL and GREENROOM_OBJECT_STORE_ENDPOINT lead to it"
_RIGHTS = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role, the right to read and write it"
_FOLDER = "see that the folder exists, can be written and has room"


def open_objects(
    url: str, *, endpoint: str | None = None, allow_http: bool = False, timeout_s: float = 10.0
) -> ObjectStore:
    """The store at a folder's path, `s3://bucket/prefix` or `memory://`. Asks nothing of it yet.

    `endpoint` is where S3 is, when not at Amazon; a plain http one must be allowed. Raises `InvalidInput`.
    """
    scheme = urlsplit(url).scheme
    store: Any
    try:
        if scheme == "s3":
            store = _s3(url, endpoint, allow_http=allow_http, timeout_s=timeout_s)
        elif scheme == "memory":
            store = MemoryStore()
        elif scheme in ("", "file"):
            store = LocalStore(Path(url.removeprefix("file://")).expanduser().absolute(), mkdir=True)
        else:
            raise InvalidInput(f"{url}: an object store is a folder's path, s3://bucket/prefix or memory://")
    except (BaseError, ValueError, OSError) as error:
        raise InvalidInput(f"the object store {url} cannot be used: {_said(error)}") from error
    fix, rights = (_ADDRESS, _RIGHTS) if scheme == "s3" else (_FOLDER, _FOLDER)
    return ObstoreObjects(store, name=url, fix=fix, rights=rights, timeout_s=timeout_s)


def _s3(url: str, endpoint: str | None, *, allow_http: bool, timeout_s: float) -> S3Store:
    if endpoint is not None and not endpoint.startswith("https://") and not allow_http:
        raise InvalidInput(
            f"{endpoint} is not https, so credentials and files could be read on the way; "
            "GREENROOM_OBJECT_STORE_ALLOW_HTTP=true allows it"
        )
    return S3Store.from_url(
        url,
        config={"endpoint": endpoint} if endpoint else {},
        client_options={
            "allow_http": allow_http,
            "connect_timeout": timedelta(seconds=min(5.0, timeout_s)),
            "timeout": timedelta(seconds=timeout_s),
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=timeout_s)},
    )


class ObstoreObjects:
    """An `ObjectStore` over one of obstore's. Belongs to no event loop."""

    def __init__(self, store: Any, *, name: str, fix: str, rights: str, timeout_s: float) -> None:
        self._store = store
        self._name = name
        self._fix = fix
        self._rights = rights
        self._timeout_s = timeout_s

    async def put(self, key: str, data: bytes, *, create: bool = False) -> bool:
        mode = "create" if create else "overwrite"
        async with self._translated("write"):
            try:
                await obstore.put_async(self._store, checked_key(key), data, mode=mode)
            except AlreadyExistsError:
                return False
        return True

    async def upload(self, key: str, chunks: AsyncIterable[bytes], *, within_s: float) -> int:
        source = _Source(chunks)
        async with self._translated("write", within_s=within_s, source=source):
            await obstore.put_async(
                self._store, checked_key(key), source, chunk_size=PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
        return source.size_bytes

    async def get(self, key: str) -> bytes | None:
        async with self._translated("read"):
            try:
                found = await obstore.get_async(self._store, checked_key(key))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return None
            return bytes(await found.bytes_async())

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        async with self._translated("read"):
            try:
                found = await obstore.get_async(self._store, checked_key(key))
            except FileNotFoundError as error:
                self._check_bucket(error)
                return
        pieces = aiter(found.stream(min_chunk_size=_PIECE_BYTES))
        while True:
            async with self._translated("read"):
                try:
                    piece = bytes(await anext(pieces))
                except StopAsyncIteration:
                    return
            yield piece

    async def delete(self, *keys: str) -> None:
        for key in keys:
            async with self._translated("delete"):
                try:
                    await obstore.delete_async(self._store, checked_key(key))
                except FileNotFoundError as error:
                    self._check_bucket(error)

    async def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        async with self._translated("list"):
            found = await _obstore.list(self._store, checked_key(prefix)).collect_async()
        return tuple(sorted((ObjectInfo(meta["path"], meta["size"]) for meta in found), key=lambda info: info.key))

    def _check_bucket(self, error: Exception) -> None:
        """A store that is not there must not look like one that is empty."""
        if "NoSuchBucket" in str(error):
            raise StoreUnavailable(f"there is no bucket for {self._name}: create it, or {self._fix}") from error

    def _check_rights(self, error: Exception, what: str) -> None:
        # A listing that is refused comes as an error of no kind.
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or "403 Forbidden" in str(error):
            raise StoreUnavailable(f"the object store {self._name} does not let us {what}: {self._rights}") from error

    @asynccontextmanager
    async def _translated(
        self, what: str, *, within_s: float | None = None, source: "_Source | None" = None
    ) -> AsyncGenerator[None]:
        within_s = within_s or self._timeout_s
        try:
            async with asyncio.timeout(within_s):
                yield
        except TimeoutError as error:
            self._pass_on(source)
            raise StoreUnavailable(
                f"the object store {self._name} did not {what} within {within_s:g} s: {self._fix}"
            ) from error
        except (BaseError, OSError) as error:
            self._pass_on(source)
            self._check_bucket(error)
            self._check_rights(error, what)
            raise StoreUnavailable(
                f"the object store {self._name} cannot {what} ({_said(error)}): {self._fix}"
            ) from error
        except Exception:
            self._pass_on(source)
            raise

    def _pass_on(self, source: "_Source | None") -> None:
        """What the chunks raised came through obstore, which may have made something else of it."""
        if source is not None and source.error is not None:
            raise source.error


class _Source:
    """The chunks of an upload, which remembers what they raised and how long they were."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(chunks)
        self.size_bytes = 0
        self.error: Exception | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        self.size_bytes += len(chunk)
        return chunk


def _said(error: Exception) -> str:
    """The first line of what obstore says: what follows is its own structures, spelled out."""
    return (str(error).splitlines() or [type(error).__name__])[0].strip()[:300]
