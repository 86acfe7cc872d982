"""Output is kept in bounds: head and tail, and a stream of the beginning."""

from hypothesis import given
from hypothesis import strategies as st

from actors.sandbox.output import FLOOD_FACTOR, Output

chunks = st.lists(st.binary(max_size=60), max_size=40)


@given(chunks, st.integers(2, 200))
def test_head_and_tail_of_what_came(parts, limit):
    whole = b"".join(parts).replace(b"\x80", b"x")
    output = Output(limit)
    for part in parts:
        output.add(part.replace(b"\x80", b"x"))
    text = output.text()

    assert output.total_bytes == len(whole)
    assert output.truncated == (len(whole) > limit)
    if len(whole) <= limit:
        assert text == whole.decode("utf-8", "replace")
    else:
        head, tail = whole[: limit // 2], whole[-(limit - limit // 2) :]
        assert text.startswith(head.decode("utf-8", "replace") + "\n[… ")
        assert text.endswith(" …]\n" + tail.decode("utf-8", "replace"))
        assert f"[… {len(whole) - limit} bytes left out …]" in text


@given(chunks, st.integers(2, 200))
def test_memory_is_bounded(parts, limit):
    output = Output(limit)
    for part in parts * 3:
        output.add(part)
        held = len(output._head) + sum(map(len, output._tail))
        assert held <= limit + 60


@given(st.text(max_size=100), st.data())
def test_stream_is_the_text_however_it_is_cut(text, data):
    whole = text.encode("utf-8", "replace")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    streamed = []
    output = Output(1000, streamed.append)

    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        output.add(whole[start:end])

    assert "".join(streamed) == whole.decode()


def test_stream_ends_at_the_limit():
    streamed = []
    output = Output(10, streamed.append)
    for _ in range(5):
        output.add(b"abcd")

    assert "".join(streamed) == "abcdabcdab"


def test_flood():
    output = Output(10)
    output.add(b"x" * 10 * FLOOD_FACTOR)
    assert not output.is_flood
    output.add(b"x")
    assert output.is_flood
