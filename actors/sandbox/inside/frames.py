"""Frames between host and agent: two lengths, a JSON object, a payload of bytes.

Both sides decode incrementally and cap both lengths before they keep a byte, because what comes out of
a sandbox is hostile. A peer that breaks the format gets a `FrameError` and no second chance.
"""

import json
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # an import of typing would be a tenth of the time that a sandbox takes to start
    from typing import Any

MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
_PREFIX = struct.Struct(">II")


Frame = tuple[dict[str, "Any"], bytes]


class FrameError(Exception):
    """The bytes are not frames."""


def encode(header: "dict[str, Any]", payload: bytes = b"") -> bytes:
    """Raises FrameError where header or payload are over their limits."""
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES:
        raise FrameError(f"the header has {len(text)} bytes; at most {MAX_HEADER_BYTES} are allowed")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
    return _PREFIX.pack(len(text), len(payload)) + text + payload


class FrameDecoder:
    """Turns a stream of bytes, cut anywhere, into frames. It holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "list[Frame]":
        """The frames that `data` completes. Raises FrameError; the decoder is of no use afterwards."""
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= _PREFIX.size:
            header_size, payload_size = _PREFIX.unpack_from(self._buffer)
            if header_size > MAX_HEADER_BYTES or payload_size > MAX_PAYLOAD_BYTES:
                raise FrameError(f"a frame of {header_size} and {payload_size} bytes is over the limits")
            payload_start = _PREFIX.size + header_size
            end = payload_start + payload_size
            if len(self._buffer) < end:
                break
            header = _parse(bytes(self._buffer[_PREFIX.size : payload_start]))
            frames.append((header, bytes(self._buffer[payload_start:end])))
            del self._buffer[:end]
        return frames


def _parse(text: bytes) -> "dict[str, Any]":
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the header is not JSON: {type(error).__name__}") from error
    if not isinstance(header, dict):
        raise FrameError("the header is not a JSON object")
    return header  # type: ignore[no-any-return]  # JSON objects have strings for keys
