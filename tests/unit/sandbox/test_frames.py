"""The codec: whole frames however the stream is cut, and no hostile byte gets further than FrameError."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sandbox.inside.frames import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, FrameDecoder, FrameError, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
frames = st.lists(
    st.tuples(st.dictionaries(st.text(max_size=10), json_values, max_size=5), st.binary(max_size=200)), max_size=8
)


@given(frames, st.data())
def test_frames_survive_any_cutting(sent, data):
    stream = b"".join(encode(header, payload) for header, payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = FrameDecoder()

    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])

    assert received == sent


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_any_bytes_give_frames_or_a_frame_error(parts):
    decoder = FrameDecoder()
    try:
        for part in parts:
            for header, payload in decoder.feed(part):
                assert isinstance(header, dict)
                assert isinstance(payload, bytes)
    except FrameError:
        pass


@pytest.mark.parametrize("prefix", [(MAX_HEADER_BYTES + 1, 0), (2, MAX_PAYLOAD_BYTES + 1), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_lengths_are_refused_before_anything_is_kept(prefix):
    with pytest.raises(FrameError, match="over the limits"):
        FrameDecoder().feed(struct.pack(">II", *prefix))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"1", b"null", b"{", b"\xff\xfe", b'{"a":' + b"[" * 60_000, b'{"n":' + b"9" * 60_000 + b"}"]
)
def test_headers_that_are_no_object(text):
    with pytest.raises(FrameError):
        FrameDecoder().feed(struct.pack(">II", len(text), 0) + text)


def test_what_is_too_large_is_not_sent():
    with pytest.raises(FrameError, match="payload"):
        encode({}, bytes(MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(FrameError, match="header"):
        encode({"a": "x" * MAX_HEADER_BYTES})
    assert FrameDecoder().feed(encode({}, bytes(MAX_PAYLOAD_BYTES)))[0][1] == bytes(MAX_PAYLOAD_BYTES)
