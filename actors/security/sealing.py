"""The cipher that encrypts: AES-256-GCM under a key of the owner's, which is derived from one that a file holds.

Sealed are four bytes that say what it is, the id of the key, a random nonce, and the text with its tag. The owner and
the place are authenticated with it, so that nothing sealed can be taken for something else.
"""

import base64
import binascii
import os
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..core.errors import InvalidInput
from .cipher import KEYS_SETTING, SEALED, KeyMissing

KEY_BYTES = 32
CLEAR = "clear"
"""As a line of the file: what was stored before there was a key may be read."""

MAKE = "head -c 32 /dev/urandom | base64"
"""What makes a line of the file."""

_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = len(SEALED) + _ID_BYTES
_LENGTH = struct.Struct(">I")


class AesGcm:
    """Seals with the first of its keys, and unseals what any of them sealed.

    The id of a key is derived from it, so a wrong key is known from something that was changed. One key of an owner
    may seal 2**32 times, which is what random nonces allow.
    """

    def __init__(self, keys: tuple[bytes, ...], *, reads_clear: bool = False) -> None:
        self._keys: Mapping[bytes, bytes] = {_key_id(key): key for key in keys}
        self._first = _key_id(keys[0])
        self._reads_clear = reads_clear

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes:
        head = SEALED + self._first
        nonce = os.urandom(_NONCE_BYTES)
        cipher = _of_owner(self._keys[self._first], owner)
        return head + nonce + cipher.encrypt(nonce, data, _bound(head, owner, place))

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:
        """Raises `KeyMissing`, and ValueError for what was not sealed for this owner and place, or was changed."""
        if not data.startswith(SEALED):
            if self._reads_clear:
                return data
            raise KeyMissing(
                f"it is not sealed; a line {CLEAR!r} in the file of {KEYS_SETTING} lets clear text be read"
            )
        if len(data) < _HEAD_BYTES + _NONCE_BYTES + _TAG_BYTES:
            raise ValueError("it was cut off")
        head, nonce = data[:_HEAD_BYTES], data[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        key_id = head[len(SEALED) :]
        key = self._keys.get(key_id)
        if key is None:
            raise KeyMissing(
                f"it is sealed with the key {key_id.hex()}, which is not here: add that to the file of {KEYS_SETTING}"
            )
        try:
            return _of_owner(key, owner).decrypt(nonce, data[_HEAD_BYTES + _NONCE_BYTES :], _bound(head, owner, place))
        except InvalidTag as error:
            raise ValueError("it was changed, or sealed for another owner or place") from error


def read_keys(file: Path) -> AesGcm:
    """A cipher with the keys of a file: base64 of 32 bytes in each line, the newest first. Raises `InvalidInput`."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the file of keys {file} cannot be read: {error}") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    keys = tuple(_parse(line, file) for line in lines if line != CLEAR)
    if not keys:
        raise InvalidInput(f"the file of keys {file} holds no key; make one: {MAKE} > {file}")
    return AesGcm(keys, reads_clear=CLEAR in lines)


def _parse(line: str, file: Path) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        # Not the line itself: it may be most of a key.
        raise InvalidInput(f"a line of {file} is no base64 of {KEY_BYTES} bytes; this makes one: {MAKE}")
    return key


def _key_id(key: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _ID_BYTES, salt=None, info=b"greenroom key id").derive(key)


@lru_cache(maxsize=1024)
def _of_owner(key: bytes, owner: str) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=b"greenroom owner " + owner.encode()).derive(key))


def _bound(head: bytes, owner: str, place: str) -> bytes:
    """What is authenticated beside the text. The length parts owner and place: `a` + `bc` is not `ab` + `c`."""
    return head + _LENGTH.pack(len(owner.encode())) + owner.encode() + place.encode()
