"""The two requests by which a workspace leaves a sandbox and comes into another one: `pack` and `unpack`.

Between the two it is a stream of bytes, a tar file under gzip. The host carries it and never looks into it. Each
request does a bounded piece of work, so the agent serves commands beside it.
"""

from .packing import Packer
from .unpacking import Unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Archive:
    """The packing and the unpacking that are under way: one of each, and a first part ends what was left unfinished."""

    def __init__(self) -> None:
        self._packer: Packer | None = None
        self._unpacker: Unpacker | None = None

    def answer(self, operation: str, header: "dict[str, Any]", payload: bytes) -> "tuple[dict[str, Any], bytes]":
        """Members and payload of the answer to `pack` or `unpack`. Raises `files.Refused`, OSError and ValueError."""
        if operation == "pack":
            return self._pack(header)
        return self._unpack(header, payload), b""

    def _pack(self, header: "dict[str, Any]") -> "tuple[dict[str, Any], bytes]":
        packer = Packer(header["max"]) if header["first"] else self._packer
        self._packer = None  # what fails cannot go on
        if packer is None:
            raise ValueError("a part was asked for and nothing is being packed")
        data = packer.part()
        if packer.more:
            self._packer = packer
        return {"more": packer.more}, data

    def _unpack(self, header: "dict[str, Any]", payload: bytes) -> "dict[str, Any]":
        unpacker = Unpacker(header["max"]) if header["first"] else self._unpacker
        self._unpacker = None
        if unpacker is None:
            raise ValueError("a part came and nothing is being unpacked")
        unpacker.add(payload)
        if header["last"]:
            unpacker.finish()
        else:
            self._unpacker = unpacker
        return {"files": unpacker.files, "size": unpacker.size_bytes}
