"""One connection of a sandbox through the proxy: what it asks, whether it may, and then bytes to and fro."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from ..core.errors import GreenroomError
from .egress_base import Attempt, ConnectionLog, Denied, EgressLimits, Resolver
from .egress_hello import UNRECOGNIZED_NAME, NoHello, server_name
from .egress_request import Request, parse_request
from .egress_rules import Address, EgressRules

_CHUNK_BYTES = 64 * 1024
_RECORD_S = 10.0
_RESOLVED_AT_ONCE = 2
_FAREWELL_S = 2.0
_HALF_S = 10.0
"""A connection of which one side has said its last may be silent for so long."""

_log = logging.getLogger(__name__)


CountBytes: TypeAlias = Callable[[str, int], None]
"""Told of bytes as they pass, and of their direction: `in` or `out`."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What decides over the connections of all sandboxes."""

    rules: EgressRules
    limits: EgressLimits
    resolve: Resolver
    log: ConnectionLog
    count_bytes: CountBytes


@dataclass(slots=True)
class Account:
    """What one sandbox has used. `session_id` is None as long as it belongs to nobody."""

    session_id: str | None = None
    connections: int = 0
    bytes: int = 0
    # So that slow names of one sandbox leave some of the threads that resolve to the others.
    resolving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_RESOLVED_AT_ONCE))


@dataclass(frozen=True, slots=True)
class Ends:
    """Both directions of one stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Over(Exception):
    """It has ended, in whichever way."""


@dataclass(slots=True)
class _Silence:
    """When a connection has been silent for too long."""

    timeout: asyncio.Timeout
    allowed_s: float

    def broken(self) -> None:
        if not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time() + self.allowed_s)


@dataclass(slots=True)
class Connection:
    """`run` sees it through, and closes the client's end and the server's whatever happens."""

    desk: Desk
    account: Account
    client: Ends
    _asked: Request | None = field(default=None, init=False)

    async def run(self) -> None:
        try:
            server = await self._admitted()
            try:
                await self._pass(server)
            finally:
                server.writer.transport.abort()
        except Denied as denied:
            await self._refuse(denied)
        except (_Over, OSError, TimeoutError):
            pass  # either side has gone, or was silent for too long
        finally:
            self.client.writer.transport.abort()

    async def _admitted(self) -> Ends:
        """The server's end of a connection that may be made. Raises Denied, and OSError where the client is gone."""
        self._asked = asked = parse_request(await self._head())
        if self.account.session_id is None:
            raise Denied("lease", "this sandbox belongs to no session yet")
        self.desk.rules.check_target(asked.host, asked.port)
        try:
            async with asyncio.timeout(self.desk.limits.connect_s):
                addresses = await self._addresses(asked)
                await self._record(Attempt(asked.host.name, asked.port, "allowed", ", ".join(map(str, addresses))))
                return await self._connect(addresses, asked.port)
        except TimeoutError:
            seconds = self.desk.limits.connect_s
            raise Denied("unreachable", f"{asked.host.name} did not answer within {seconds:g} s", status=504) from None

    async def _head(self) -> bytes:
        try:
            async with asyncio.timeout(self.desk.limits.head_s):
                return await self.client.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise _Over from None
            raise Denied("request", "this is no HTTP request", status=400) from None
        except asyncio.LimitOverrunError:
            size = self.desk.limits.head_bytes
            raise Denied("request", f"the request's head is longer than {size} bytes", status=431) from None
        except TimeoutError:
            seconds = self.desk.limits.head_s
            raise Denied("request", f"no whole request came within {seconds:g} s", status=408) from None

    async def _addresses(self, asked: Request) -> tuple[Address, ...]:
        if asked.host.address is not None:
            return (asked.host.address,)
        try:
            async with self.account.resolving:
                found = await self.desk.resolve(asked.host.name)
        except OSError as error:
            raise Denied("unreachable", f"{asked.host.name} cannot be resolved: {error}", status=502) from None
        usable = self.desk.rules.usable(asked.host, found)
        for address in usable:
            self.desk.rules.check_not_own(address)
        return usable

    async def _connect(self, addresses: tuple[Address, ...], port: int) -> Ends:
        """To the first that answers, by the very addresses that were judged."""
        reason = ""
        for address in addresses:
            try:
                return Ends(*await asyncio.open_connection(str(address), port, limit=_CHUNK_BYTES))
            except OSError as error:
                reason = error.strerror or str(error)
        raise Denied("unreachable", f"no connection to port {port}: {reason}", status=502)

    async def _pass(self, server: Ends) -> None:
        assert self._asked is not None
        try:
            async with asyncio.timeout(self.desk.limits.idle_s) as timeout:
                silence = _Silence(timeout, self.desk.limits.idle_s)
                if self._asked.is_tunnel:
                    self.client.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    server.writer.write(await self._hello(self._asked))
                else:
                    server.writer.write(self._asked.head)
                await self._exchange(self._asked, server, silence)
        except* (OSError, _Over):
            pass

    async def _exchange(self, asked: Request, server: Ends, silence: _Silence) -> None:
        async with asyncio.TaskGroup() as group:
            body = None if asked.is_tunnel else asked.body_bytes
            outgoing = group.create_task(self._pump(self.client.reader, server.writer, silence, "out", body))
            await self._pump(server.reader, self.client.writer, silence, "in")
            if not asked.is_tunnel:
                outgoing.cancel()  # the answer is whole; what else the client says is nobody's
        # What is written is not sent yet.
        await self.client.writer.drain()
        self.client.writer.close()
        await self.client.writer.wait_closed()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        silence: _Silence,
        direction: str,
        size: int | None = None,
    ) -> None:
        """All that comes from `source`, or its first `size` bytes, to `sink`."""
        while size is None or size:
            data = await source.read(_CHUNK_BYTES if size is None else min(size, _CHUNK_BYTES))
            if not data:
                silence.allowed_s = min(silence.allowed_s, _HALF_S)
                if sink.can_write_eof():
                    sink.write_eof()
                break
            size = None if size is None else size - len(data)
            await self._spend(len(data), direction)
            silence.broken()
            sink.write(data)
            await sink.drain()
        silence.broken()

    async def _hello(self, asked: Request) -> bytes:
        """The first words of a client that asks TLS for the host that it asked us for. Raises _Over for any other."""
        data = b""
        try:
            while (name := server_name(data)) is None:
                more = await self.client.reader.read(_CHUNK_BYTES)
                if not more:
                    raise _Over
                data += more
            if name.removesuffix(".") != ("" if asked.host.address else asked.host.name):
                raise NoHello(f"it asks for {name[:100]!r} in the tunnel")
        except NoHello as no:
            await self._record_refusal(Denied("tls", f"in a tunnel to {asked.host.name}: {no}"))
            self.client.writer.write(UNRECOGNIZED_NAME)
            await self._farewell()
            raise _Over from None
        await self._spend(len(data), "out")
        return data

    async def _spend(self, size: int, direction: str) -> None:
        self.desk.count_bytes(direction, size)
        self.account.bytes += size
        if self.account.bytes > self.desk.limits.total_bytes:
            await self._record_refusal(Denied("bytes", f"over {self.desk.limits.total_bytes} bytes of the sandbox"))
            raise _Over

    async def _refuse(self, denied: Denied) -> None:
        await self._record_refusal(denied)
        with contextlib.suppress(OSError):
            self.client.writer.write(answer(denied))
            await self._farewell()

    async def _farewell(self) -> None:
        """Let the client read what was said last, and not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                self.client.writer.close()
                await self.client.writer.wait_closed()

    async def _record_refusal(self, denied: Denied) -> None:
        host, port = (self._asked.host.name, self._asked.port) if self._asked else ("", 0)
        try:
            await self._record(Attempt(host, port, "refused", rule=denied.rule, reason=denied.reason))
        except Denied:
            _log.warning("a refused connection of a sandbox is in no audit: %s", denied.reason)

    async def _record(self, attempt: Attempt) -> None:
        """Raises Denied where it cannot be written."""
        await write(self.desk.log, self.account, attempt)


async def write(log: ConnectionLog, account: Account, attempt: Attempt) -> None:
    """Audit an attempt, unless it is of nobody's sandbox. Raises Denied where it cannot be written."""
    if account.session_id is None:
        return
    try:
        async with asyncio.timeout(_RECORD_S):
            await log.record(account.session_id, attempt)
    except (GreenroomError, TimeoutError) as error:
        raise Denied("audit", "the connection cannot be audited, and so is not made", status=503) from error


def answer(denied: Denied) -> bytes:
    """A refusal in words. They are in the first line too, which is all that some clients show."""
    said = "".join(character if 32 <= ord(character) < 127 else "?" for character in denied.reason)
    body = f"Greenroom: {said}.\n"
    head = [
        f"HTTP/1.1 {denied.status} {said}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"X-Greenroom-Rule: {denied.rule}",
        "Connection: close",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()
