"""The proxy alone, between an echo server and clients of this process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.ports import free_ports

from .proxy import Proxy
from .waiting import eventually

WITHIN_S = 5.0
SHORT_S = 0.2


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    beyond = server.sockets[0].getsockname()[1]
    async with Proxy(lambda: asyncio.open_connection("127.0.0.1", beyond), free_ports(1)[0]) as proxy:
        yield proxy
    server.close()


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def said_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes) -> bytes:
    writer.write(word)
    async with asyncio.timeout(WITHIN_S):
        return await reader.readexactly(len(word))


async def test_bytes_pass_both_ways_and_the_end_is_passed_on(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    assert await said_back(reader, writer, b"hello") == b"hello"
    assert proxy.connections == 1

    writer.write_eof()
    async with asyncio.timeout(WITHIN_S):
        assert await reader.read() == b""
    assert await eventually(lambda: proxy.connections == 0, within_s=WITHIN_S)
    writer.close()


async def test_it_knows_who_is_talking(proxy: Proxy) -> None:
    quiet, talking = await connect(proxy), await connect(proxy)
    assert proxy.busy_ports(within_s=WITHIN_S) == set()
    await said_back(*talking, b"hello")
    assert proxy.busy_ports(within_s=WITHIN_S) == {talking[1].get_extra_info("sockname")[1]}
    for _, writer in (quiet, talking):
        writer.close()
    assert await eventually(lambda: not proxy.busy_ports(within_s=WITHIN_S), within_s=WITHIN_S)


async def test_a_cut_resets_connections_and_refuses_new_ones_until_it_is_healed(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    await said_back(reader, writer, b"before")

    proxy.cut()

    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(ConnectionResetError):
            await reader.read()
        late, _ = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await late.read()
    proxy.heal()
    assert await said_back(*await connect(proxy), b"after") == b"after"


async def test_a_stall_holds_what_is_sent_and_loses_nothing(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    await said_back(reader, writer, b"before")

    proxy.stall()
    new_reader, new_writer = await connect(proxy)
    for one in (writer, new_writer):
        one.write(b"held")
    for one in (reader, new_reader):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT_S):
                await one.readexactly(4)
    proxy.heal()

    async with asyncio.timeout(WITHIN_S):
        assert await reader.readexactly(4) == await new_reader.readexactly(4) == b"held"


async def test_a_delay_lets_everything_come_later(proxy: Proxy) -> None:
    reader, writer = await connect(proxy)
    clock = asyncio.get_running_loop().time
    proxy.delay(SHORT_S)
    before = clock()
    await said_back(reader, writer, b"slow")
    assert clock() - before >= 2 * SHORT_S
    proxy.heal()
    before = clock()
    await said_back(reader, writer, b"fast")
    assert clock() - before < 2 * SHORT_S


async def test_nobody_beyond_is_a_reset() -> None:
    nobody, port = free_ports(2)
    async with Proxy(lambda: asyncio.open_connection("127.0.0.1", nobody), port) as proxy:
        reader, _ = await connect(proxy)
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_leaving_ends_what_is_open() -> None:
    nobody, port = free_ports(2)
    async with Proxy(lambda: asyncio.open_connection("127.0.0.1", nobody), port) as proxy:
        proxy.stall()
        reader, _ = await connect(proxy)
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(ConnectionResetError):
            await reader.read()
