"""The seam through which every stored payload passes.

The owner says whose key, the place (`events/<session>/<seq>`) is authenticated with the data, so that a sealed payload
cannot be moved to another row. `sealing.py` has the cipher that encrypts; workspaces pass it where there is a file of
keys. The journal stores clear text yet.
"""

from typing import Protocol

SEALED = b"GRS1"
"""What is encrypted begins so."""

KEYS_SETTING = "GREENROOM_OBJECT_KEYS_PATH"


class Cipher(Protocol):
    """Seals what a user stored. Both calls are pure computation and fast; keys are fetched elsewhere."""

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes: ...

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:
        """Raises ValueError for what was not sealed for this owner and place, `KeyMissing` where nobody can know."""
        ...


class KeyMissing(ValueError):
    """It cannot be read with the keys that are here, and may be as good as ever. The message names the mending."""


class ClearText:
    """No encryption."""

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes:  # noqa: ARG002 - the Protocol's
        return data

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:  # noqa: ARG002 - the Protocol's
        return data
