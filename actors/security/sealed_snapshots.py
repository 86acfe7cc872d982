"""Workspaces of sessions in the object store, sealed: who reads the store reads nothing of them.

A lease has the objects `workspaces/<session>/<number>.<kind>`. `lease` says that it was given, `saving` that it is
being saved, and it ends with `saved` or `lost`. The order of leases is in the numbers, which are taken by creating
an object that is not there, so two machines never take the same one, and nothing is ever replaced by something older.
"""

import hashlib
import struct
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from ..core.clock import Clock
from ..core.errors import StoreUnavailable
from ..sandbox.snapshots import Claim, Snapshot, SnapshotDamaged
from ..store.objects import ObjectStore
from .cipher import KEYS_SETTING, SEALED, Cipher, KeyMissing

SAVING_S = 20.0
"""A lease that is being saved elsewhere is waited for so long."""

_POLL_S = 0.25
_TRIES = 20
_FOLDER = "workspaces"
_LENGTH = struct.Struct(">I")
_LAST = 1 << 31
"""Set in the length of the last chunk. Who sets or clears it gets a chunk of another place."""

_MAX_SEALED_BYTES = 8 * 1024 * 1024

_Kind: TypeAlias = Literal["lease", "saving", "saved", "lost"]


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    number: int
    kind: _Kind


class SealedSnapshots:
    """`Snapshots` over an object store.

    The owner that the cipher is told is the session: a cipher with a key per user looks up whose that is. Each chunk
    is sealed for its place in its object, which names its number, whether it is the last, and the chunk before it. So
    chunks can be neither moved nor left out, nor taken from another upload of the same object.
    """

    def __init__(self, objects: ObjectStore, cipher: Cipher, *, clock: Clock) -> None:
        self._objects = objects
        self._cipher = cipher
        self._clock = clock

    async def claim(self, session_id: str) -> Claim:
        for _ in range(_TRIES):
            entries = await self._entries(session_id)
            number = max((entry.number for entry in entries), default=0) + 1
            if await self._objects.put(_key(session_id, number, "lease"), b"", create=True):
                return await self._claimed(session_id, number, entries)
        raise StoreUnavailable(f"others take the numbers of the session's leases, {_TRIES} times now; try again")

    async def _claimed(self, session_id: str, number: int, entries: list[_Entry]) -> Claim:
        deadline = self._clock.monotonic() + SAVING_S
        while _is_being_saved(entries, number) and self._clock.monotonic() < deadline:
            await self._clock.sleep(_POLL_S)
            entries = await self._entries(session_id)
        earlier = [entry for entry in entries if entry.number < number]
        ended = _newest(earlier)
        unsaved = any(entry.kind == "lease" and entry.number > (ended.number if ended else 0) for entry in earlier)
        return Claim(number, await self._snapshot(session_id, ended), unsaved)

    async def newest(self, session_id: str) -> Snapshot | None:
        return await self._snapshot(session_id, _newest(await self._entries(session_id)))

    async def _snapshot(self, session_id: str, entry: _Entry | None) -> Snapshot | None:
        if entry is None or entry.kind == "saved":
            return entry and Snapshot(entry.number)
        return Snapshot(entry.number, await self._why(session_id, entry.key))

    async def _why(self, session_id: str, key: str) -> str:
        sealed = await self._objects.get(key)
        try:
            return "" if sealed is None else self._cipher.unseal(sealed, owner=session_id, place=key).decode()
        except ValueError:
            return "it was lost for a reason that cannot be read any more"  # nothing hangs on it but this sentence

    async def announce(self, session_id: str, number: int) -> None:
        await self._objects.put(_key(session_id, number, "saving"), b"")

    async def save(self, session_id: str, number: int, chunks: AsyncIterable[bytes], *, within_s: float) -> int:
        key = _key(session_id, number, "saved")
        size = await self._objects.upload(key, self._sealed(chunks, session_id, key), within_s=within_s)
        await self._settle(session_id, number)
        return size

    async def lose(self, session_id: str, number: int, why: str) -> None:
        key = _key(session_id, number, "lost")
        await self._objects.put(key, self._cipher.seal(why.encode(), owner=session_id, place=key))
        await self._settle(session_id, number)

    async def _settle(self, session_id: str, number: int) -> None:
        """Drop what the end of a lease makes needless; all that it left, if the session was forgotten meanwhile.

        `forget` removes the leases before it looks for the rest. So either the lease is missed here, or what was
        written before this look is seen there.
        """
        entries = await self._entries(session_id)
        if any(entry.kind == "lease" and entry.number == number for entry in entries):
            needless = [e.key for e in entries if e.number < number or (e.number == number and e.kind == "saving")]
        else:
            needless = [e.key for e in entries if e.number <= number]
        await self._objects.delete(*needless)

    async def load(self, session_id: str, number: int) -> AsyncGenerator[bytes]:
        """Raises `StoreUnavailable` where the key is missing: what is stored is not damaged, and is not given up."""
        key = _key(session_id, number, "saved")
        places = _Places(key)
        async for sealed, is_last in _framed(self._objects.stream(key)):
            try:
                chunk = self._cipher.unseal(sealed, owner=session_id, place=places.next(is_last=is_last))
            except KeyMissing as error:
                raise StoreUnavailable(f"{key} cannot be read: {error}") from error
            except ValueError as error:
                raise SnapshotDamaged(f"{key} was not sealed by us for this place: {error}") from error
            if places.at_start and chunk.startswith(SEALED):
                raise StoreUnavailable(f"{key} is sealed, and there are no keys here: set {KEYS_SETTING}")
            places.passed(sealed)
            if chunk:
                yield chunk

    async def _sealed(self, chunks: AsyncIterable[bytes], session_id: str, key: str) -> AsyncGenerator[bytes]:
        """Each chunk with its length before it; the last one is empty, and known by its place."""
        places = _Places(key)
        async for chunk in chunks:
            sealed = self._cipher.seal(chunk, owner=session_id, place=places.next(is_last=False))
            places.passed(sealed)
            yield _LENGTH.pack(len(sealed)) + sealed
        sealed = self._cipher.seal(b"", owner=session_id, place=places.next(is_last=True))
        yield _LENGTH.pack(len(sealed) | _LAST) + sealed

    async def forget(self, session_id: str) -> None:
        while entries := await self._entries(session_id):
            leases = [entry.key for entry in entries if entry.kind == "lease"]
            await self._objects.delete(*(leases or [entry.key for entry in entries]))

    async def _entries(self, session_id: str) -> list[_Entry]:
        return [_entry(info.key) for info in await self._objects.list(f"{_FOLDER}/{session_id}")]


async def _framed(pieces: AsyncIterable[bytes]) -> AsyncGenerator[tuple[bytes, bool]]:
    """The sealed chunks, and of each whether it is the last. Raises SnapshotDamaged when that one is missing."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            is_last, end = bool(length & _LAST), _LENGTH.size + (length & ~_LAST)
            if end > _MAX_SEALED_BYTES:
                raise SnapshotDamaged("a chunk is too large to be one of ours")
            if len(buffer) < end:
                break
            yield bytes(buffer[_LENGTH.size : end]), is_last
            del buffer[:end]
            if is_last:
                return
    raise SnapshotDamaged("it has no end")


def _key(session_id: str, number: int, kind: _Kind) -> str:
    return f"{_FOLDER}/{session_id}/{number:010d}.{kind}"


class _Places:
    """The places of an object's chunks, one after the other."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._index = 0
        self._before = ""

    @property
    def at_start(self) -> bool:
        return self._index == 0

    def next(self, *, is_last: bool) -> str:
        return f"{self._key}/{self._index}/{self._before}{'/last' if is_last else ''}"

    def passed(self, sealed: bytes) -> None:
        self._index += 1
        self._before = hashlib.blake2b(sealed, digest_size=16).hexdigest()


def _entry(key: str) -> _Entry:
    number, _, kind = key.rpartition("/")[2].partition(".")
    return _Entry(key, int(number), cast("_Kind", kind))


def _newest(entries: list[_Entry]) -> _Entry | None:
    ended = [entry for entry in entries if entry.kind in ("saved", "lost")]
    # A lease whose workspace was saved and then could not be recorded as lost has both: it was lost later.
    return max(ended, key=lambda entry: (entry.number, entry.kind == "lost"), default=None)


def _is_being_saved(entries: list[_Entry], before: int) -> bool:
    """Whether the last lease before this one is on its way into the store."""
    earlier = [entry for entry in entries if entry.number < before]
    last = max((entry.number for entry in earlier), default=0)
    kinds = {entry.kind for entry in earlier if entry.number == last}
    return "saving" in kinds and not kinds & {"saved", "lost"}
