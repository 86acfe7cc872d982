"""A TCP proxy that can cut, hold or slow down what passes: network loss between two processes of a run."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self, TypeAlias

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 64 * 1024
_CLOSE_S = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: closing sends a reset, as from a machine that knows nothing of the connection."""


class Proxy:
    """Passes connections to `port` of loopback on. Use it as an async context manager.

    `connect` makes the connection beyond: `lambda: asyncio.open_connection(host, port)`.
    """

    def __init__(self, connect: Callable[[], Awaitable[Streams]], port: int) -> None:
        self.port = port
        self._connect = connect
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._passed_at: dict[int, float] = {}
        self._passing = asyncio.Event()
        self._passing.set()
        self._is_cut = False
        self._delay_s = 0.0
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def busy_ports(self, within_s: float) -> set[int]:
        """The clients, by their ports, whose connections passed something within so many seconds before now."""
        since = asyncio.get_running_loop().time() - within_s
        return {port for port, at in self._passed_at.items() if at >= since}

    def cut(self) -> None:
        """Reset every connection, and each that comes, until `heal`."""
        self._is_cut = True
        for writers in self._connections.values():
            _reset(writers)

    def stall(self) -> None:
        """Let nothing through, and say nothing, until `heal`. New connections are taken and held too."""
        self._passing.clear()

    def delay(self, seconds: float) -> None:
        """Let everything come later by so much, in both directions, until `heal`."""
        self._delay_s = seconds

    def heal(self) -> None:
        self._is_cut = False
        self._delay_s = 0.0
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [writer]
        port = writer.get_extra_info("peername")[1]
        try:
            if not self._is_cut:
                await self._pass_on(reader, writer, writers, port)
        except* OSError:
            pass  # either side is gone: so is the other, below
        finally:
            del self._connections[task]
            self._passed_at.pop(port, None)
            _reset(writers)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, writers: list[asyncio.StreamWriter], port: int
    ) -> None:
        await self._passing.wait()
        beyond, back = await self._connect()
        writers.append(back)
        if self._is_cut:
            return  # it came while the connection was made
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, back, port))
            group.create_task(self._pass(beyond, writer, port))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        while data := await reader.read(_CHUNK):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
            self._passed_at[port] = asyncio.get_running_loop().time()
        with suppress(OSError):
            writer.write_eof()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        # Cut and not cancelled: then each connection comes to its own end.
        self.cut()
        self._passing.set()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=_CLOSE_S)
        await self._server.wait_closed()


def _reset(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        if not writer.transport.is_closing():
            connection = writer.get_extra_info("socket")
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
