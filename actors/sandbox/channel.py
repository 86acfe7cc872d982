"""The host's end of the connection to an agent: requests with one answer, and commands with a stream of output.

Bytes that are not what the agent would send end the connection; whoever waits then gets `ChannelClosed`.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast, get_args

from .base import Variables
from .inside.frames import Frame, FrameDecoder, FrameError, encode
from .inside.room import Left


class ChannelClosed(Exception):
    """The agent is gone, or said something that it never says."""


class RequestRefused(Exception):
    """The agent answered that it cannot do it. The text is from inside: any text at all, but well-formed."""


class Command:
    """A command on its way. `exit` yields its exit code, or None where the agent was lost.

    `variables` is set by then, where it ran in the interpreter that lasts.
    """

    def __init__(self, id_: int, on_output: Callable[[bytes], None], exit_: asyncio.Future[int | None]) -> None:
        self.id = id_
        self.on_output = on_output
        self.exit = exit_
        self.variables: Variables | None = None


class AgentChannel(asyncio.Protocol):
    """One connection. Used on its event loop's thread only."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder()
        self._last_id = 0
        self._replies: dict[int, asyncio.Future[Frame]] = {}
        self._commands: dict[int, Command] = {}
        self._abandoned: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self.close()

    def data_received(self, data: bytes) -> None:
        if self.closed.is_set():
            return
        try:
            for header, payload in self._decoder.feed(data):
                self._dispatch(header, payload)
        except (FrameError, KeyError, TypeError, ValueError):
            self.close()

    async def request(self, operation: str, payload: bytes = b"", **members: Any) -> Frame:
        """Send and wait for the answer. Raises RequestRefused and ChannelClosed; the caller sets the deadline."""
        request_id = self._next_id()
        reply = self._replies[request_id] = asyncio.get_running_loop().create_future()
        try:
            self._send({"id": request_id, "op": operation, **members}, payload)
            header, data = await reply
        finally:
            del self._replies[request_id]
            if reply.cancelled():
                self._abandoned.add(request_id)
        if "error" in header:
            raise RequestRefused(_well_formed(header["error"]))
        return header, data

    def start(self, kind: str, text: bytes, on_output: Callable[[bytes], None]) -> Command:
        """Start a command. Raises ChannelClosed."""
        command = Command(self._next_id(), on_output, asyncio.get_running_loop().create_future())
        self._commands[command.id] = command
        self._send({"id": command.id, "op": kind}, text)
        return command

    def kill(self, command: Command) -> None:
        """Ask for the end of a command and of all that it started. Its `exit` tells when that is done."""
        if not self.closed.is_set():
            self._send({"id": command.id, "op": "kill"})

    def close(self) -> None:
        """Hang up, whatever the agent thinks of it. Idempotent."""
        if self.closed.is_set():
            return
        self.closed.set()
        if self._transport:
            self._transport.abort()
        if not self.ready.done():
            self.ready.set_exception(ChannelClosed())
            self.ready.exception()  # nobody may be waiting for it
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ChannelClosed())
        for command in self._commands.values():
            if not command.exit.done():
                command.exit.set_result(None)
        self._commands.clear()

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        if self._transport is None or self.closed.is_set():
            raise ChannelClosed
        self._transport.write(encode(header, payload))

    def _dispatch(self, header: dict[str, Any], payload: bytes) -> None:
        if header.get("ready") is True and not self.ready.done():
            self.ready.set_result(None)
            return
        request_id = header["id"]
        command = self._commands.get(request_id)
        if command is None:
            self._answer(request_id, header, payload)
        elif "out" in header:
            command.on_output(payload)
        else:
            code = header["exit"]
            if not isinstance(code, int) or not -128 < code < 256:
                raise ValueError("no exit code")
            command.variables = _variables(header.get("variables"))
            del self._commands[request_id]
            if not command.exit.done():
                command.exit.set_result(code)

    def _answer(self, request_id: int, header: dict[str, Any], payload: bytes) -> None:
        reply = self._replies.get(request_id)
        if reply is not None and not reply.done():
            reply.set_result((header, payload))
        elif request_id in self._abandoned:
            self._abandoned.discard(request_id)
        else:
            raise ValueError("an answer to nothing")


def parse_entries(payload: bytes) -> list[tuple[str, int, bool]]:
    """The answer to `list`. Raises ValueError where it is not one."""
    try:
        rows: Any = json.loads(payload)
        return [(_well_formed(path), _size(size), bool(is_dir)) for path, size, is_dir in rows]
    except (TypeError, RecursionError) as error:
        raise ValueError("not a list of entries") from error


def parse_cut(header: dict[str, Any]) -> bool:
    """The answer to `list`: whether it is not all. Raises ValueError where it is not one."""
    cut: Any = header.get("cut")
    if not isinstance(cut, bool):
        raise ValueError("no word on whether that is all")  # noqa: TRY004  as for every other nonsense
    return cut


def parse_stat(frame: Frame) -> tuple[str, str, int]:
    """The answer to `stat`: where the path leads, the kind, the size. Raises ValueError where it is not one."""
    header, payload = frame
    kind: Any = header.get("kind")
    if kind not in ("file", "folder", "missing", "special"):
        raise ValueError("not a kind of file")
    return payload.decode("utf-8", "replace")[:4096], kind, parse_size(header)


def parse_rooms(frame: Frame) -> list[Left]:
    """The answer to `room`. Raises ValueError where it is not one."""
    try:
        rows: Any = json.loads(frame[1])
        return [(_size(free), _size(inodes), _size(free_inodes)) for free, inodes, free_inodes in rows]
    except (TypeError, RecursionError) as error:
        raise ValueError("not a list of rooms") from error


def _variables(value: Any) -> Variables | None:
    if value is not None and value not in get_args(Variables):
        raise ValueError("nothing that variables can be")
    return value


def parse_more(header: dict[str, Any]) -> bool:
    """The answer to `pack`: whether more of the workspace follows. Raises ValueError where it is not one."""
    more: Any = header.get("more")
    if not isinstance(more, bool):
        raise ValueError("no word on whether there is more")  # noqa: TRY004  as for every other nonsense
    return more


def parse_sums(header: dict[str, Any]) -> tuple[int, int]:
    """The answer to `unpack`: files, and their bytes. Raises ValueError where it is not one."""
    return _size(header.get("files")), _size(header.get("size"))


def parse_size(header: dict[str, Any]) -> int:
    """The member `size` of an answer. Raises ValueError."""
    return _size(header.get("size"))


def _size(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError("not a size")
    return value


def _well_formed(text: Any) -> str:
    # JSON can spell halves of characters, which no encoder of ours would take later.
    return str(text)[:4096].encode("utf-8", "replace").decode()
