"""The standard streams of a container on one connection, as the daemon carries them: frames with a stream's number."""

import asyncio
import struct

_HEADER = struct.Struct(">BxxxI")
_STANDARD_OUTPUT = 1
_KEPT_BYTES = 4096


class ContainerStreams(asyncio.Protocol):
    """Unpacks standard output for another protocol, and keeps the end of standard error as `words`.

    What is sent to the container is not packed, so the inner protocol writes to the transport itself.
    """

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._header = bytearray()
        self._stream = 0
        self._missing = 0
        self._words = bytearray()

    @property
    def words(self) -> str:
        return self._words.decode("utf-8", "replace").strip()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not self._missing:
                view = self._read_header(view)
                continue
            part, view = view[: self._missing], view[self._missing :]
            self._missing -= len(part)
            if self._stream == _STANDARD_OUTPUT:
                self._inner.data_received(bytes(part))
            else:
                self._words += part
                del self._words[:-_KEPT_BYTES]

    def _read_header(self, view: memoryview) -> memoryview:
        wanted = _HEADER.size - len(self._header)
        self._header += view[:wanted]
        if len(self._header) == _HEADER.size:
            self._stream, self._missing = _HEADER.unpack(self._header)
            self._header.clear()
        return view[wanted:]
