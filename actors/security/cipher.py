"""The seam through which every stored payload passes.

Today's only cipher stores clear text. A cipher with a key per user fits here without a change to the
journal: the owner says whose key, the place (`events/<session>/<seq>`) is authenticated with the data,
so that a sealed payload cannot be moved to another row.
"""

from typing import Protocol


class Cipher(Protocol):
    """Seals what a user stored. Both calls are pure computation and fast; keys are fetched elsewhere."""

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes: ...

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:
        """Raises ValueError for what was not sealed for this owner and place."""
        ...


class ClearText:
    """No encryption."""

    def seal(self, data: bytes, *, owner: str, place: str) -> bytes:  # noqa: ARG002 - the Protocol's
        return data

    def unseal(self, data: bytes, *, owner: str, place: str) -> bytes:  # noqa: ARG002 - the Protocol's
        return data
