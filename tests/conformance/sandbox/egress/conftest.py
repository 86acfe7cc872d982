"""Servers on this machine's loopback, which the rules open, names that lead where a test wants, and sandboxes."""

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field

import pytest

from actors.core.clock import SystemClock
from actors.core.errors import StoreUnavailable
from actors.sandbox.base import SandboxSpec
from actors.sandbox.bubblewrap import BubblewrapBackend
from actors.sandbox.docker import DockerBackend
from actors.sandbox.egress import Egress
from actors.sandbox.egress_base import EgressLimits
from actors.sandbox.egress_rules import EgressRules
from actors.sandbox.host import SandboxHost, open_sandboxes
from actors.testing.authority import Authority

ALLOWED = "allowed.example.org"
BELOW = "a.below.example.org"


@dataclass
class ListLog:
    """`ConnectionLog` in memory. With `unavailable` nothing can be written."""

    attempts: list = field(default_factory=list)
    sessions: list = field(default_factory=list)
    unavailable: bool = False

    async def record(self, session_id, attempt):
        if self.unavailable:
            raise StoreUnavailable("The audit cannot be written.")
        self.sessions.append(session_id)
        self.attempts.append(attempt)

    @property
    def refused(self):
        return [attempt.rule for attempt in self.attempts if attempt.decision == "refused"]

    @property
    def allowed(self):
        return [(attempt.host, attempt.port) for attempt in self.attempts if attempt.decision == "allowed"]


class Web:
    """A server that answers every request with its first line, and by some paths in an odd way."""

    def __init__(self):
        self.requests = []
        self.open = 0
        self._server = None

    async def start(self, context: ssl.SSLContext | None = None):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        return self

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    def stop(self):
        self._server.close()

    async def _serve(self, reader, writer):
        self.open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _answer(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        self.requests.append((head, body))
        path = head.split(" ")[1]
        if path == "/silent":
            await reader.read()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while path == "/endless":
            writer.write(b"x" * 65536)
            await writer.drain()
        writer.write(f"served {head.splitlines()[0]}\n".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture(scope="session")
def authority():
    return Authority()


@pytest.fixture
async def web():
    made = await Web().start()
    yield made
    made.stop()


@pytest.fixture
async def tls(authority, tmp_path):
    made = await Web().start(authority.server(tmp_path, ALLOWED, BELOW, "other.example.org"))
    yield made
    made.stop()


@pytest.fixture
async def datagrams():
    """A server of datagrams on loopback; what came to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0)
        yield server


@pytest.fixture
def names():
    """What the resolver answers; a list of lists is given out one after the other."""
    return {ALLOWED: ["127.0.0.1"], BELOW: ["127.0.0.1"], "below.example.org": ["127.0.0.1"]}


@pytest.fixture
def asked():
    """Names that were resolved."""
    return []


@pytest.fixture
def log():
    return ListLog()


@pytest.fixture
def egress_limits():
    return EgressLimits(connections=8, connections_total=200, total_bytes=8 << 20, head_s=1, connect_s=5, idle_s=5)


@pytest.fixture
def make_egress(web, tls, names, asked, log, egress_limits):
    """What opens loopback and nothing else that is private, for two domains."""

    async def resolve(name):
        asked.append(name)
        if name not in names:
            raise OSError("Name or service not known")
        found = names[name]
        return found.pop(0) if isinstance(found[0], list) else found

    def make(*, networks=("127.0.0.0/8",), limits=egress_limits):
        rules = EgressRules.of([ALLOWED, "*.below.example.org"], [web.port, tls.port], networks)
        return Egress(rules, log=log, limits=limits, resolve=resolve)

    return make


@pytest.fixture
async def egress(make_egress):
    made = make_egress()
    yield made
    made.close()


@pytest.fixture(params=["bubblewrap", "docker"])
async def backend(request, cache, egress):
    if request.param == "docker":
        made = DockerBackend(cache, host=request.getfixturevalue("dockerd").host, egress=egress)
    else:
        made = BubblewrapBackend(cache, egress=egress)
    yield made
    await made.aclose()


@pytest.fixture
async def host(backend, limits):
    opened = await open_sandboxes(backend, SandboxSpec(limits, warm=1), clock=SystemClock())
    assert isinstance(opened, SandboxHost), await opened.status()
    yield opened
    await opened.aclose()
