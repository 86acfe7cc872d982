"""Readers that stop reading, over real sockets with small buffers and the server that replicas run on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, says

BUFFER = 4096
LONG = "word " * 40_000


class Reader:
    """One request over one connection, read when the test reads it."""

    def __init__(self, theirs: socket.socket, server: ServerState) -> None:
        self._socket, self.server = theirs, server
        self._http = h11.Connection(h11.CLIENT)
        self.body = bytearray()
        self.status: int | None = None
        self.ended: str | None = None

    async def ask(self, method: str, path: str, key: str, **headers: str) -> None:
        given = {"Host": "test", "Authorization": f"Bearer {key}", "Accept": "text/event-stream", **headers}
        request = self._http.send(h11.Request(method=method, target=path, headers=list(given.items())))
        await asyncio.get_running_loop().sock_sendall(self._socket, request + self._http.send(h11.EndOfMessage()))

    async def read(self, size: int = BUFFER) -> bool:
        """Take what is there, or wait for some; False when the connection has ended."""
        got = await asyncio.get_running_loop().sock_recv(self._socket, size)
        self._http.receive_data(got)
        try:
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                match event:
                    case h11.Response():
                        self.status = event.status_code
                    case h11.Data():
                        self.body += event.data
                    case h11.EndOfMessage() | h11.ConnectionClosed():
                        self.ended = "whole"
                        return False
        except h11.RemoteProtocolError:
            self.ended = "cut off"
            return False
        return True

    async def until(self, text: bytes) -> None:
        while text not in self.body:
            assert await self.read(), self.body[-500:]


@pytest.fixture
async def connect(until):
    """Connects to an edge through uvicorn."""

    @asynccontextmanager
    async def connection(edge) -> AsyncIterator[Reader]:
        config = uvicorn.Config(edge.app, http="h11", lifespan="off", log_config=None)
        config.load()
        server = ServerState()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.settimeout(0)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: H11Protocol(config, server, {}), ours
        )
        try:
            async with asyncio.timeout(20):
                yield Reader(theirs, server)
        finally:
            theirs.close()
            if not transport.is_closing():
                transport.abort()
            await until(lambda: not server.tasks)

    return connection


@pytest.fixture
async def long_history(make_edge):
    """A session whose journal is larger than what the buffers between server and reader hold."""
    edge = await make_edge(ScriptedLLM(otherwise=says(LONG)), sse_write_s=0.3)
    edge.session = (await edge.say("1"))["session_id"]
    await edge.say("2", session_id=edge.session)
    edge.path = f"/api/v1/sessions/{edge.session}/events"
    return edge


@pytest.fixture
def gave_up(until):
    """Waits until the server has given up a reader, which reads nothing meanwhile."""

    async def wait(reader: Reader) -> None:
        await until(lambda: not reader.server.tasks)

    return wait


async def test_a_reader_that_stops_is_cut_off_and_resumes_where_it_was(long_history, connect, parse, logged, gave_up):
    edge = long_history
    async with connect(edge) as reader:
        await reader.ask("GET", edge.path, edge.key)
        await reader.until(b"retry: 1000")
        await gave_up(reader)
        while await reader.read():
            pass
    assert (reader.status, reader.ended) == (200, "cut off")
    assert "reader too slow, cut off" in {entry["event"] for entry in logged}
    had = [event.json() for event in parse(bytes(reader.body.rpartition(b"\n\n")[0]) + b"\n\n")]
    assert 0 < len(had) < 11

    async with connect(edge) as again:
        await again.ask("GET", edge.path, edge.key, **{"Last-Event-ID": str(had[-1]["seq"])})
        await again.until(b"id: 11\n")
        await again.until(b"turn.completed")
        while not again.body.endswith(b"\n\n"):
            await again.read()

    assert had + [event.json() for event in parse(bytes(again.body))] == await edge.events(edge.session)


async def test_a_reader_that_is_slow_and_reads_on_is_not_cut_off(make_edge, connect, parse):
    """Though one event alone takes it longer than it may take nothing."""
    edge = await make_edge(ScriptedLLM(otherwise=says(LONG * 5)), sse_write_s=1.5)
    session = (await edge.say("1"))["session_id"]
    began = asyncio.get_running_loop().time()
    async with connect(edge) as reader:
        await reader.ask("GET", f"/api/v1/sessions/{session}/events", edge.key)
        while b"id: 6\n" not in reader.body or not reader.body.endswith(b"\n\n"):
            assert await reader.read()
            await asyncio.sleep(0.01)  # it is its pace that is tested

    assert asyncio.get_running_loop().time() - began > edge.services.settings.sse_write_s
    assert [event.json() for event in parse(bytes(reader.body))] == await edge.events(session)


async def test_a_turn_whose_reader_stops_goes_on(make_edge, connect, gave_up):
    gate = asyncio.Event()
    llm = ScriptedLLM([[*(TextDelta(LONG) for _ in range(3)), gate, says(LONG * 3)[-1]]])
    edge = await make_edge(llm, sse_write_s=0.3, sse_heartbeat_s=0.2, delta_interval_s=0)
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    async with connect(edge) as reader:
        await reader.ask("GET", f"/api/v1/sessions/{session}/events", edge.key)
        await reader.until(b"session.created")
        sent = (await edge.http.post(f"/api/v1/sessions/{session}/messages", json={"message": "Hi"})).json()
        await gave_up(reader)

    assert (llm.open, llm.broken_off) == (1, 0)
    gate.set()
    assert (await edge.ended(sent["turn_id"]))["status"] == "completed"


async def test_a_reader_of_a_replay_that_stops_is_cut_off_too(long_history, connect, gave_up):
    edge = long_history
    turn = (await edge.events(edge.session))[-1]["turn_id"]
    async with connect(edge) as reader:
        await reader.ask("GET", f"/api/v1/turns/{turn}/events", edge.key)
        await reader.until(b"retry: 1000")
        await gave_up(reader)
        while await reader.read():
            pass

    assert reader.ended == "cut off"
