"""The host's end of the connection: what an agent may say, and what ends the connection."""

import asyncio
import json
import struct

import pytest

from actors.sandbox.channel import AgentChannel, ChannelClosed, RequestRefused, parse_entries, parse_size
from actors.sandbox.inside.frames import FrameDecoder, encode


class Wire:
    """A transport that keeps what the host sends."""

    def __init__(self):
        self.decoder = FrameDecoder()
        self.sent = []
        self.aborted = False

    def write(self, data):
        self.sent += self.decoder.feed(data)

    def abort(self):
        self.aborted = True


@pytest.fixture
async def channel():
    made = AgentChannel()
    made.wire = Wire()
    made.connection_made(made.wire)
    made.data_received(encode({"ready": True}))
    return made


async def test_ready(channel):
    await channel.ready


async def test_request_and_answer(channel):
    asking = asyncio.create_task(channel.request("read", path="f", offset=0, max=10))
    await asyncio.sleep(0)
    [(header, _)] = channel.wire.sent
    assert header == {"id": 1, "op": "read", "path": "f", "offset": 0, "max": 10}

    channel.data_received(encode({"id": 1, "size": 3}, b"abc"))

    assert await asking == ({"id": 1, "size": 3}, b"abc")


async def test_refusal_is_text_that_can_be_sent_on(channel):
    asking = asyncio.create_task(channel.request("read", path="f"))
    await asyncio.sleep(0)
    channel.data_received(encode({"id": 1, "error": "\udcff" + "x" * 10_000}))

    with pytest.raises(RequestRefused) as caught:
        await asking
    assert len(str(caught.value).encode()) <= 4096


async def test_command_streams_and_ends(channel):
    parts = []
    command = channel.start("shell", b"ls", parts.append)
    for header, payload in (
        ({"id": 1, "out": True}, b"a"),
        ({"id": 1, "out": True}, b"b"),
        ({"id": 1, "exit": -9}, b""),
    ):
        channel.data_received(encode(header, payload))

    assert parts == [b"a", b"b"]
    assert await command.exit == -9


async def test_answer_to_a_request_that_was_given_up(channel):
    asking = asyncio.create_task(channel.request("list", path="."))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    channel.data_received(encode({"id": 1}, b"[]"))

    assert not channel.closed.is_set()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8,
        struct.pack(">II", 2, 0) + b"[]",
        encode({}),
        encode({"id": 99, "exit": 0}),
        encode({"id": 1}),
        encode({"id": 1, "exit": "0"}),
        encode({"id": 1, "exit": 1 << 40}),
        encode({"id": 1, "exit": None}),
        encode({"id": [], "exit": 0}),
        encode({"id": {}, "out": True}),
        encode({"ready": True}),
    ],
)
async def test_nonsense_ends_the_connection(channel, data):
    command = channel.start("shell", b"ls", lambda _: None)
    asking = asyncio.create_task(channel.request("list", path="."))
    await asyncio.sleep(0)

    channel.data_received(data)

    assert channel.closed.is_set()
    assert channel.wire.aborted
    assert await command.exit is None
    with pytest.raises(ChannelClosed):
        await asking
    channel.data_received(encode({"id": 1, "exit": 0}))  # is not heard any more


async def test_end_of_connection_before_it_was_ready():
    channel = AgentChannel()
    channel.connection_made(Wire())
    channel.connection_lost(None)

    with pytest.raises(ChannelClosed):
        await channel.ready
    with pytest.raises(ChannelClosed):
        await channel.request("list", path=".")
    with pytest.raises(ChannelClosed):
        channel.start("shell", b"", lambda _: None)


@pytest.mark.parametrize("rows", ["1", "[1]", "[[1]]", '[["a", -1, false]]', '[["a", "1", false]]', "{", "[" * 100_000])
def test_entries_that_are_none(rows):
    with pytest.raises(ValueError):  # noqa: PT011  the text is json's or ours
        parse_entries(rows.encode())


def test_entries_and_sizes():
    assert parse_entries(json.dumps([["a", 1, False], ["b", 0, True]]).encode()) == [("a", 1, False), ("b", 0, True)]
    assert parse_size({"size": 7}) == 7
    for wrong in ({}, {"size": -1}, {"size": 1 << 70}, {"size": "7"}):
        with pytest.raises(ValueError, match="size"):
            parse_size(wrong)
