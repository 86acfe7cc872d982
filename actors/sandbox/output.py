"""What a command printed: a bounded head and tail of it, and the live stream of its beginning."""

import codecs
from collections import deque
from collections.abc import Callable

FLOOD_FACTOR = 16
"""A command is stopped when it has printed so many times the limit: nobody will read that."""


class Output:
    """Keeps at most `limit_bytes`: the first half and the last half of what came.

    `on_text` gets the first `limit_bytes` as they come, decoded; after that only the end is of interest.
    """

    def __init__(self, limit_bytes: int, on_text: Callable[[str], None] | None = None) -> None:
        self._limit = max(2, limit_bytes)
        self._head_limit = self._limit // 2
        self._tail_limit = self._limit - self._head_limit
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._on_text = on_text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.total_bytes = 0

    @property
    def is_flood(self) -> bool:
        return self.total_bytes > FLOOD_FACTOR * self._limit

    @property
    def truncated(self) -> bool:
        return self.total_bytes > self._limit

    def add(self, data: bytes) -> None:
        self._stream(data)
        self.total_bytes += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._keep_at_end(data)

    def text(self) -> str:
        """All of it, or head and tail with a line between them that says how much is left out."""
        tail = b"".join(self._tail)[-self._tail_limit :]
        if not self.truncated:
            return (bytes(self._head) + tail).decode("utf-8", "replace")
        left_out = self.total_bytes - len(self._head) - len(tail)
        head = self._head.decode("utf-8", "replace")
        return f"{head}\n[… {left_out} bytes left out …]\n{tail.decode('utf-8', 'replace')}"

    def _keep_at_end(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._tail_size -= len(self._tail.popleft())

    def _stream(self, data: bytes) -> None:
        if self._on_text is None:
            return
        text = self._decoder.decode(data[: max(0, self._limit - self.total_bytes)])
        if text:
            self._on_text(text)
