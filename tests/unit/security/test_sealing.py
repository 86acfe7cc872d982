"""The cipher that encrypts: what was changed, moved or cut is refused, keys may be changed, errors name the mending."""

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.errors import InvalidInput, StoreUnavailable
from actors.sandbox.snapshots import Snapshot, SnapshotDamaged
from actors.security.cipher import ClearText, KeyMissing
from actors.security.sealed_snapshots import SealedSnapshots
from actors.security.sealing import AesGcm, read_keys
from actors.store.obstore_objects import open_objects
from actors.testing.clock import FakeClock

OLD, NEW = bytes(range(32)), bytes(reversed(range(32)))
KEPT = "workspaces/sess_a/0000000001.saved"
texts = st.text(max_size=20)


@given(st.binary(max_size=200), texts, texts)
def test_what_was_sealed_is_opened_again_and_shows_nothing(data, owner, place):
    cipher = AesGcm((NEW,))
    one, two = (cipher.seal(data, owner=owner, place=place) for _ in range(2))
    assert one != two
    assert len(data) < 4 or data not in one
    assert cipher.unseal(one, owner=owner, place=place) == data


@given(st.binary(min_size=1, max_size=64), st.data())
def test_whatever_was_changed_is_refused(data, draw):
    cipher = AesGcm((NEW,), reads_clear=False)
    sealed = cipher.seal(data, owner="o", place="p")
    at = draw.draw(st.integers(0, len(sealed) - 1))
    flipped = bytearray(sealed)
    flipped[at] ^= draw.draw(st.integers(1, 255))
    for wrong in (bytes(flipped), sealed[:at], sealed + b"x"):
        with pytest.raises(ValueError, match=r"."):
            cipher.unseal(wrong, owner="o", place="p")


@given(texts, texts, texts, texts)
def test_it_is_opened_for_its_owner_and_place_only(owner, place, other_owner, other_place):
    cipher = AesGcm((NEW,))
    sealed = cipher.seal(b"x", owner=owner, place=place)
    if (owner, place) != (other_owner, other_place):
        with pytest.raises(ValueError, match="another owner or place"):
            cipher.unseal(sealed, owner=other_owner, place=other_place)


def test_the_border_between_owner_and_place_is_sealed_too():
    sealed = AesGcm((NEW,)).seal(b"x", owner="ab", place="c")
    with pytest.raises(ValueError, match="another owner or place"):
        AesGcm((NEW,)).unseal(sealed, owner="a", place="bc")


def test_keys_are_changed_by_a_new_first_one():
    sealed = AesGcm((OLD,)).seal(b"x", owner="o", place="p")
    both = AesGcm((NEW, OLD))
    assert both.unseal(sealed, owner="o", place="p") == b"x"
    assert AesGcm((NEW,)).unseal(both.seal(b"y", owner="o", place="p"), owner="o", place="p") == b"y"
    with pytest.raises(KeyMissing):
        AesGcm((NEW,)).unseal(sealed, owner="o", place="p")


def test_clear_text_is_read_only_where_that_was_said():
    assert AesGcm((NEW,), reads_clear=True).unseal(b"old", owner="o", place="p") == b"old"
    with pytest.raises(KeyMissing, match="'clear'"):
        AesGcm((NEW,)).unseal(b"old", owner="o", place="p")


# The file -------------------------------------------------------------------------------------------


def line(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_a_file_has_the_newest_key_first(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of this year\n{line(NEW)}\n\n{line(OLD)}\nclear\n")
    cipher = read_keys(file)
    sealed = cipher.seal(b"x", owner="o", place="p")
    assert AesGcm((NEW,)).unseal(sealed, owner="o", place="p") == b"x"
    assert cipher.unseal(AesGcm((OLD,)).seal(b"x", owner="o", place="p"), owner="o", place="p") == b"x"
    assert cipher.unseal(b"clear text", owner="o", place="p") == b"clear text"


@pytest.mark.parametrize("text", ["", "clear\n", "# nothing\n", "short\n", f"{line(b'x' * 31)}\n", "not base64 !!\n"])
def test_a_file_without_keys_says_how_to_make_one(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(InvalidInput, match="urandom") as told:
        read_keys(file)
    assert text.strip("# \n") in ("", "clear", "nothing") or text.strip() not in told.value.message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot be read"):
        read_keys(tmp_path / "none")


# Snapshots under it ---------------------------------------------------------------------------------


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def kept(objects, *keys: bytes) -> SealedSnapshots:
    return SealedSnapshots(objects, AesGcm(keys or (NEW,)), clock=FakeClock())


async def saved(objects, *chunks: bytes, session: str = "sess_a") -> bytes:
    """The object that is stored for them."""
    snapshots = kept(objects)
    if await snapshots.newest(session) is None:
        await snapshots.claim(session)
    await snapshots.save(session, 1, pieces(*chunks), within_s=10)
    return await objects.get(f"workspaces/{session}/0000000001.saved")


async def load(snapshots: SealedSnapshots) -> bytes:
    return b"".join([chunk async for chunk in snapshots.load("sess_a", 1)])


def frames(stored: bytes) -> list[bytes]:
    found = []
    while stored:
        end = 4 + (int.from_bytes(stored[:4]) & ~(1 << 31))
        found.append(stored[:end])
        stored = stored[end:]
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_a_snapshot_that_was_changed_anywhere_is_refused(chunks, draw):
    async def check() -> None:
        objects = open_objects("memory://")
        stored = await saved(objects, *chunks)
        at = draw.draw(st.integers(0, len(stored) - 1))
        flipped = bytearray(stored)
        flipped[at] ^= draw.draw(st.integers(1, 255))
        for wrong in (bytes(flipped), stored[:at]):
            await objects.put(KEPT, wrong)
            with pytest.raises((SnapshotDamaged, StoreUnavailable)):
                await load(kept(objects))
        await objects.put(KEPT, stored)
        assert await load(kept(objects)) == b"".join(chunks)

    asyncio.run(check())


async def test_chunks_cannot_be_swapped_dropped_or_repeated():
    objects = open_objects("memory://")
    parts = frames(await saved(objects, b"same", b"same", b"other"))
    whole = tuple(range(len(parts)))
    orders = [order for length in range(5) for order in itertools.product(whole, repeat=length) if order != whole]
    assert len(orders) > 300
    for order in orders:
        await objects.put(KEPT, b"".join(parts[index] for index in order))
        with pytest.raises(SnapshotDamaged):
            await load(kept(objects))


async def test_chunks_of_another_upload_of_the_same_object_do_not_fit():
    objects = open_objects("memory://")
    first = frames(await saved(objects, b"one", b"two"))
    second = frames(await saved(objects, b"ONE", b"TWO"))
    await objects.put(KEPT, first[0] + second[1] + second[2])
    with pytest.raises(SnapshotDamaged):
        await load(kept(objects))


async def test_an_object_of_another_session_does_not_fit_and_its_own_stays():
    objects = open_objects("memory://")
    await saved(objects, b"mine")
    theirs = await saved(objects, b"theirs", session="sess_b")
    await objects.put(KEPT, theirs)
    with pytest.raises(SnapshotDamaged):
        await load(kept(objects))
    assert b"".join([chunk async for chunk in kept(objects).load("sess_b", 1)]) == b"theirs"


async def test_a_missing_key_is_no_damage_and_is_named():
    objects = open_objects("memory://")
    stored = await saved(objects, b"x")
    with pytest.raises(StoreUnavailable, match="GREENROOM_OBJECT_KEYS_PATH") as told:
        await load(kept(objects, OLD))
    assert stored[8:16].hex() in told.value.message
    assert await load(kept(objects, OLD, NEW)) == b"x"


async def test_that_a_workspace_is_lost_is_known_without_its_reason():
    objects = open_objects("memory://")
    snapshots = kept(objects)
    await snapshots.claim("sess_a")
    await snapshots.lose("sess_a", 1, "it was too large")
    assert await snapshots.newest("sess_a") == Snapshot(1, "it was too large")
    newest = await kept(objects, OLD).newest("sess_a")
    assert newest is not None
    assert newest.lost is not None
    assert "cannot be read" in newest.lost


async def test_what_was_kept_before_there_was_a_key_is_read_where_that_was_said():
    objects = open_objects("memory://")
    clear = SealedSnapshots(objects, ClearText(), clock=FakeClock())
    await clear.claim("sess_a")
    await clear.save("sess_a", 1, pieces(b"old"), within_s=10)
    assert await load(SealedSnapshots(objects, AesGcm((NEW,), reads_clear=True), clock=FakeClock())) == b"old"
    with pytest.raises(StoreUnavailable, match="'clear'"):
        await load(kept(objects))


async def test_without_any_key_what_is_sealed_is_not_taken_for_damaged():
    objects = open_objects("memory://")
    await saved(objects, b"x")
    with pytest.raises(StoreUnavailable, match="GREENROOM_OBJECT_KEYS_PATH"):
        await load(SealedSnapshots(objects, ClearText(), clock=FakeClock()))
