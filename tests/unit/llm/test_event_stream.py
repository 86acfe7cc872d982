"""Server-sent events: split anywhere, lines end only where the standard says."""

import httpx
import httpx_sse
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.llm.event_stream import EventStreamDecoder


def decode(*pieces: bytes) -> list[bytes]:
    decoder = EventStreamDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b": OPENROUTER PROCESSING\n\n: again\n\ndata: a\n\n", [b"a"]),
        (b"event: x\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        ("data: a\u2028b\u2029c\x85d\x0be\x0c\n\n".encode(), ["a\u2028b\u2029c\x85d\x0be\x0c".encode()]),
        (b"dataset: a\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_events_of_a_stream(stream: bytes, events: list[bytes]):
    assert decode(stream) == events
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == events


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
def test_a_last_event_without_its_empty_line_is_not_lost(end: bytes):
    assert decode(b"data: a\n\ndata: [DONE]" + end) == [b"a", b"[DONE]"]


def test_a_carriage_return_at_the_end_of_a_piece_may_be_half_a_line_end():
    assert decode(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [b"a\nb"]


_starts = st.sampled_from(["data: ", "data:", ": note", "id: 1", "x", "é\u2028", "data: {}", ""])
_rests = st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), max_size=5)
_lines = st.lists(st.tuples(_starts, _rests).map("".join) | st.just(""), max_size=12)


@given(_lines, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_agrees_with_httpx_sse_however_the_bytes_are_split(lines, line_end, data):
    stream = line_end.join([*lines, "", ""]).removeprefix("\ufeff").encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    # httpx-sse also reports events that have only an id; here data is all that counts.
    expected = [event.data for event in httpx_sse.EventSource(response).iter_sse() if event.data]
    assert [event.decode() for event in decode(*pieces) if event] == expected
