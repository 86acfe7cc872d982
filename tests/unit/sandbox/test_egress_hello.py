"""The name in a TLS client's first words, found in what a real client says, in any pieces."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sandbox.egress_hello import HELLO_BYTES, NoHello, server_name


def hello(name: str | None = "example.org") -> bytes:
    """What Python's own client says first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    context.verify_mode = ssl.CERT_REQUIRED if name else ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


REAL = hello()


def made(*extensions: tuple[int, bytes], records: int = 1) -> bytes:
    """A client's first words with these extensions, cut into records of TLS."""
    said = b"".join(kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body for kind, body in extensions)
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(said).to_bytes(2, "big") + said
    message = b"\1" + len(body).to_bytes(3, "big") + body
    size = -(-len(message) // records)
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\3\1" + len(part).to_bytes(2, "big") + part for part in parts)


def name(text: str, kind: int = 0) -> bytes:
    entry = bytes([kind]) + len(text).to_bytes(2, "big") + text.encode()
    return len(entry).to_bytes(2, "big") + entry


def test_a_real_client():
    assert server_name(REAL) == "example.org"
    assert server_name(hello("EXAMPLE.org")) == "example.org"
    assert server_name(hello(None)) == ""


@pytest.mark.parametrize("end", range(len(REAL)))
def test_more_is_waited_for(end):
    assert server_name(REAL[:end]) is None


@pytest.mark.parametrize("records", [1, 2, 7, 50])
def test_it_may_come_in_several_records(records):
    assert server_name(made((0, name("example.org")), records=records)) == "example.org"


def test_what_follows_is_not_read():
    assert server_name(REAL + b"anything") == "example.org"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\2\1\0\1\1",
        b"\x16\3\1\0\0",
        b"\x16\3\1\xff\xff",
        b"\x16\3\1\0\4\2\0\0\0",
        b"\x15\3\1\0\2\2\x28",
        b"\x16\3\1\0\4\1\xff\xff\xff",
        made((0, name("example.org")), (0, name("evil.org"))),
        made((0, name("evil.org", kind=1))),
        made((0, b"\0\x0c" + name("a.b")[2:] + name("c.d")[2:])),
        made((0, name("example.org")), (0xFE0D, b"hidden")),
        made((0, name("exämple.org"))),
        made((0, b"\0")),
        made((0, b"\xff\xff\0")),
    ],
)
def test_what_hides_or_doubles_the_name_is_refused(data):
    with pytest.raises(NoHello):
        server_name(data)


def test_first_words_without_end_are_refused():
    endless = b"\x16\3\1\0\4\1\0\xff\0" + b"\x16\3\1\0\1\0" * HELLO_BYTES
    with pytest.raises(NoHello):
        server_name(endless[: HELLO_BYTES + 10])


@given(st.binary(max_size=300), st.integers(0, len(REAL)))
def test_any_bytes_are_judged_and_never_crash(data, kept):
    for text in (data, REAL[:kept] + data, b"\x16\3\1" + data):
        try:
            found = server_name(text)
        except NoHello:
            continue
        assert found is None or found.isascii()
