"""What the proxy takes for a request, and what it tells the server in place of the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.sandbox.egress_base import Denied
from actors.sandbox.egress_request import parse_request
from actors.sandbox.egress_rules import Host


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def test_a_tunnel():
    asked = parse_request(head("CONNECT Example.org:443 HTTP/1.1", "Host: other.org", "Proxy-Connection: keep-alive"))
    assert (asked.host, asked.port, asked.is_tunnel, asked.head) == (Host("example.org"), 443, True, b"")


def test_a_plain_request_is_sent_on_for_the_host_that_it_names():
    asked = parse_request(
        head(
            "POST http://example.org:8080/a?b=c#d HTTP/1.1",
            "Host: hidden.example.com",
            "Connection: keep-alive, X-A",
            "Proxy-Authorization: Basic x",
            "Upgrade: websocket",
            "X-A: b",
            "Content-Length: 5",
        )
    )
    assert (asked.host, asked.port, asked.is_tunnel, asked.body_bytes) == (Host("example.org"), 8080, False, 5)
    assert asked.head == head(
        "POST /a?b=c HTTP/1.1", "Host: example.org:8080", "X-A: b", "Content-Length: 5", "Connection: close"
    )


@pytest.mark.parametrize(
    ("target", "path"), [("http://example.org", "/"), ("HTTP://example.org?a", "/?a"), ("http://example.org/", "/")]
)
def test_a_path_that_is_left_out(target, path):
    assert parse_request(head(f"GET {target} HTTP/1.0")).head.startswith(f"GET {path} HTTP/1.0\r\n".encode())


@pytest.mark.parametrize(
    "lines",
    [
        ("GET / HTTP/1.1", "Host: example.org"),
        ("GET https://example.org/ HTTP/1.1",),
        ("GET ftp://example.org/ HTTP/1.1",),
        ("CONNECT example.org HTTP/1.1",),
        ("CONNECT example.org:0 HTTP/1.1",),
        ("CONNECT example.org:65536 HTTP/1.1",),
        ("CONNECT example.org:443:443 HTTP/1.1",),
        ("CONNECT user@example.org:443 HTTP/1.1",),
        ("GET http://user:pass@example.org/ HTTP/1.1",),
        ("GET http://example.org\\@evil.org/ HTTP/1.1",),
        ("GET http:///path HTTP/1.1",),
        ("GET http://example.org/ HTTP/2.0",),
        ("GET  http://example.org/ HTTP/1.1",),
        ("GET http://example.org/",),
        ("G(T http://example.org/ HTTP/1.1",),
        ("GET http://example.org/ HTTP/1.1", "no colon"),
        ("GET http://example.org/ HTTP/1.1", " folded: x"),
        ("GET http://example.org/ HTTP/1.1", "X: a\nHost: evil.org"),
        ("GET http://example.org/ HTTP/1.1", "X: a\rHost: evil.org"),
        ("GET http://example.org/\nX HTTP/1.1",),
        ("GET http://example.org/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
        ("GET http://example.org/ HTTP/1.1", "Content-Length: 1, 1"),
        ("GET http://example.org/ HTTP/1.1", "Content-Length: -1"),
        ("GET http://example.org/ HTTP/1.1", "Content-Length: +1"),
        ("POST http://example.org/ HTTP/1.1", "Transfer-Encoding: chunked"),
        ("POST http://example.org/ HTTP/1.1", "Content-Length: 3", "transfer-encoding: identity"),
        ("",),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_request(lines):
    with pytest.raises(Denied) as refused:
        parse_request(head(*lines))
    assert refused.value.status in (400, 403, 411)


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_and_never_crash(data):
    for text in (data, b"CONNECT " + data + b" HTTP/1.1\r\n\r\n", b"GET http://" + data + b" HTTP/1.1\r\n\r\n"):
        try:
            asked = parse_request(text)
        except Denied:
            continue
        assert asked.host.name.isascii()
        if not asked.is_tunnel:
            first, *fields = asked.head.decode("latin-1").split("\r\n")
            assert len(first.split(" ")) == 3
            assert [field for field in fields if field.lower().startswith("host:")] == fields[:1]
            assert not any(control in asked.head.replace(b"\r\n", b"") for control in (b"\r", b"\n", b"\0"))
