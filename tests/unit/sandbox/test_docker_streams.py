"""The daemon's frames are taken off, wherever the bytes are cut."""

import asyncio
import struct

import pytest

from actors.sandbox.docker_streams import ContainerStreams


class Inner(asyncio.Protocol):
    def __init__(self):
        self.received = b""
        self.transport = None
        self.lost = False

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.lost = True

    def data_received(self, data):
        self.received += data


def frame(stream, data):
    return struct.pack(">BxxxI", stream, len(data)) + data


@pytest.mark.parametrize("step", [1, 3, 7, 8, 9, 1000])
def test_output_comes_through_and_errors_are_kept_apart(step):
    inner = Inner()
    streams = ContainerStreams(inner)
    sent = frame(1, b"one ") + frame(2, b"a trace") + frame(1, b"") + frame(1, b"two") + frame(2, b"back\n")

    for start in range(0, len(sent), step):
        streams.data_received(sent[start : start + step])

    assert inner.received == b"one two"
    assert streams.words == "a traceback"


def test_only_the_end_of_errors_is_kept():
    streams = ContainerStreams(Inner())
    streams.data_received(frame(2, b"x" * 100_000 + b"the end"))

    assert len(streams.words) <= 4096
    assert streams.words.endswith("xthe end")


def test_the_inner_protocol_has_the_connection():
    inner, transport = Inner(), object()
    streams = ContainerStreams(inner)

    streams.connection_made(transport)
    streams.connection_lost(None)

    assert inner.transport is transport
    assert inner.lost
