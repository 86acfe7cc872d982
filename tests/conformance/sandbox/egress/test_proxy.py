"""The proxy spoken to directly at its socket, as a sandbox can, by clients that keep to nothing."""

import asyncio
import contextlib
import os
import ssl
import tempfile
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from actors.core.errors import SandboxUnavailable
from actors.sandbox.egress_base import Denied
from actors.sandbox.egress_rules import EgressRules

ALLOWED = "allowed.example.org"


@pytest.fixture
async def outlet(egress):
    made = await egress.open()
    made.assign("sess_1")
    return made


async def ask(outlet, said: bytes) -> bytes:
    """All that the proxy answers until it hangs up."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_unix_connection(str(outlet.socket_path))
        writer.write(said)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                answer += data
        writer.close()
        return answer


def get(host, port, path="/", *more):
    return "\r\n".join([f"GET http://{host}:{port}{path} HTTP/1.1", *more, "", ""]).encode()


def connect(host, port):
    return f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode()


async def tunnel(outlet, host, port):
    reader, writer = await asyncio.open_unix_connection(str(outlet.socket_path))
    writer.write(connect(host, port))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return reader, writer


def client_of(authority):
    return ssl.create_default_context(cadata=authority.pem.decode())


async def fetch(outlet, authority, port, *, sni, host=ALLOWED, path="/"):
    """Through a tunnel to `host`, by TLS with another name in it."""
    reader, writer = await tunnel(outlet, host, port)
    async with asyncio.timeout(20):
        await writer.start_tls(client_of(authority), server_hostname=sni)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer


async def test_a_plain_request(outlet, web, log):
    answer = await ask(outlet, get(ALLOWED, web.port, "/x", "Host: hidden.org", "Content-Length: 2") + b"abGET / HTTP")
    assert answer.endswith(b"served GET /x HTTP/1.1\n")
    [(head, body)] = web.requests
    assert f"Host: {ALLOWED}:{web.port}\r\n" in head
    assert "hidden" not in head
    assert body == b"ab"
    assert log.attempts[0].address == "127.0.0.1"
    assert (log.allowed, log.refused, log.sessions) == ([(ALLOWED, web.port)], [], ["sess_1"])


@pytest.mark.parametrize("host", [ALLOWED, "a.below.example.org"])
async def test_tls_by_a_tunnel(outlet, authority, tls, log, host):
    answer = await fetch(outlet, authority, tls.port, host=host, sni=host, path="/y")
    assert answer.endswith(b"served GET /y HTTP/1.1\n")
    assert (log.allowed, log.refused) == ([(host, tls.port)], [])


async def test_another_name_in_the_tunnel_than_was_asked_for(outlet, authority, tls, log):
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        await fetch(outlet, authority, tls.port, sni="other.example.org")
    assert log.refused == ["tls"]
    assert "other.example.org" in log.attempts[-1].reason
    assert tls.requests == []


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\3\1\0\4\1\0\0\0", os.urandom(64)])
async def test_something_else_than_tls_in_the_tunnel(outlet, web, log, said):
    reader, writer = await tunnel(outlet, ALLOWED, web.port)
    writer.write(said)
    async with asyncio.timeout(10):
        assert await reader.read() == bytes([21, 3, 3, 0, 2, 2, 112])
    writer.close()
    assert log.refused == ["tls"]
    assert web.requests == []


@pytest.mark.parametrize(
    ("host", "rule", "words"),
    [
        ("evil.org", "domain", b"evil.org is not among the allowed domains: allowed.example.org"),
        ("below.example.org", "domain", b"not among the allowed domains"),
        ("127.0.0.1", "domain", b""),
        ("8.8.8.8", "address", b"8.8.8.8 is an address; connect by the name"),
        ("[::1]", "address", b"is an address"),
        ("[::ffff:10.0.0.1]", "address", b"is an address"),
        ("2130706433", "host", b"is no host"),
        ("0x7f.1", "host", b"is no host"),
        ("no-such.below.example.org", "unreachable", b"cannot be resolved"),
    ],
)
async def test_a_refusal_says_why(make_egress, web, tls, log, host, rule, words):
    egress = make_egress(networks=())
    outlet = await egress.open()
    outlet.assign("sess_1")
    for said in (get(host, web.port), connect(host, tls.port)):
        answer = await ask(outlet, said)
        status, _, body = answer.partition(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 502 " if rule == "unreachable" else b"HTTP/1.1 403 ")
        if host != "127.0.0.1":
            assert words in status.splitlines()[0]
            assert words in body
            assert log.refused[-1] == rule
    assert web.requests == tls.requests == []
    assert log.allowed == []
    egress.close()


async def test_another_port(outlet, log):
    answer = await ask(outlet, connect(ALLOWED, 22))
    assert answer.startswith(b"HTTP/1.1 403 port 22 is not among the allowed ports")
    assert log.refused == ["port"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "fe80::1%1",
    ],
)
async def test_an_allowed_name_that_leads_to_a_private_address(make_egress, web, names, log, address):
    egress = make_egress(networks=())
    outlet = await egress.open()
    outlet.assign("sess_1")
    names[ALLOWED] = [address]
    answer = await ask(outlet, get(ALLOWED, web.port))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"no public address" in answer
    assert (log.refused, web.requests) == (["address"], [])
    egress.close()


async def test_a_name_is_resolved_once_and_what_was_judged_is_connected_to(outlet, web, names, asked, log):
    """A name that leads elsewhere when it is asked for again is not asked for again."""
    names[ALLOWED] = [["127.0.0.1"], ["10.0.0.1"]]
    assert b"served" in await ask(outlet, get(ALLOWED, web.port))
    assert asked == [ALLOWED]
    answer = await ask(outlet, get(ALLOWED, web.port))
    assert b"no public address" in answer
    assert len(web.requests) == 1
    assert log.refused == ["address"]


def test_this_machine_is_refused_by_any_of_its_addresses():
    with pytest.raises(Denied, match="the machine that the sandbox runs on"):
        EgressRules.of([], [], []).check_not_own(ip_address("127.0.0.1"))
    EgressRules.of([], [], []).check_not_own(ip_address("8.8.8.8"))
    EgressRules.of([], [], ["127.0.0.0/8"]).check_not_own(ip_address("127.0.0.1"))


async def test_a_sandbox_of_nobody(egress, web, log):
    outlet = await egress.open()
    assert b"belongs to no session yet" in await ask(outlet, get(ALLOWED, web.port))
    assert (log.attempts, web.requests) == ([], [])
    outlet.assign("sess_1")
    assert b"served" in await ask(outlet, get(ALLOWED, web.port))


async def test_what_cannot_be_audited_is_not_done(outlet, web, log):
    log.unavailable = True
    answer = await ask(outlet, get(ALLOWED, web.port))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"cannot be audited" in answer
    assert web.requests == []


@pytest.mark.parametrize(
    "said", [b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"\x16\3\1\2\0\1\0\1\xfc\3\3\r\n\r\n"]
)
async def test_garbage_is_answered_and_ended(outlet, log, said):
    answer = await ask(outlet, said)
    assert answer.startswith(b"HTTP/1.1 40")
    assert log.refused == ["request"]


async def test_a_head_without_end(outlet, log):
    assert (await ask(outlet, b"GET http://x/ HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)).startswith(b"HTTP/1.1 431 ")
    assert log.refused == ["request"]


async def test_a_head_that_comes_too_slowly(outlet, log):
    assert (await ask(outlet, b"GET http://x/ HT")).startswith(b"HTTP/1.1 408 ")
    assert log.refused == ["request"]


async def test_half_closed_and_silent_clients_are_ended(make_egress, web, egress_limits, eventually):
    egress = make_egress(limits=replace(egress_limits, idle_s=0.3))
    outlet = await egress.open()
    outlet.assign("sess_1")
    for half in (True, False):
        reader, writer = await asyncio.open_unix_connection(str(outlet.socket_path))
        writer.write(get(ALLOWED, web.port, "/silent"))
        if half:
            writer.write_eof()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
    await eventually(lambda: web.open == 0)
    egress.close()


async def test_a_server_that_is_not_there(outlet, web, log):
    port = web.port
    web.stop()
    answer = await ask(outlet, get(ALLOWED, port))
    assert answer.startswith(b"HTTP/1.1 502 no connection to port ")
    assert log.refused == ["unreachable"]


async def test_a_thousand_connections_are_bounded(outlet, web, log, egress_limits, eventually):
    """Eight at once, two hundred in all; what is over that costs no row of its own."""
    streams = []
    for number in range(1000):
        streams.append(await asyncio.open_unix_connection(str(outlet.socket_path)))
        if number < egress_limits.connections:
            streams[-1][1].write(get(ALLOWED, web.port, "/silent"))
    await eventually(lambda: web.open == egress_limits.connections)

    async def first_line(reader):
        return (await reader.read(100)).partition(b"\r\n")[0]

    turned_away = 0
    async with asyncio.timeout(20):
        for reader, _ in streams[egress_limits.connections :]:
            turned_away += (await first_line(reader)).startswith(b"HTTP/1.1 429 ")
    assert turned_away == 1000 - egress_limits.connections
    assert web.open == egress_limits.connections

    outlet.hang_up()
    await eventually(lambda: web.open == 0)
    await eventually(lambda: log.refused == ["connections"])
    assert log.attempts[-1].count == turned_away
    assert b"which is all" in await ask(outlet, get(ALLOWED, web.port))
    for _, writer in streams:
        writer.close()


async def test_bytes_are_bounded(outlet, web, log, egress_limits):
    answer = await ask(outlet, get(ALLOWED, web.port, "/endless"))
    assert 1 << 20 < len(answer) <= egress_limits.total_bytes
    assert log.refused == ["bytes"]
    assert len(await ask(outlet, get(ALLOWED, web.port, "/endless"))) <= 1000


async def test_closing_ends_connections_and_the_socket(outlet, web, eventually):
    reader, writer = await asyncio.open_unix_connection(str(outlet.socket_path))
    writer.write(get(ALLOWED, web.port, "/silent"))
    await eventually(lambda: web.open == 1)

    outlet.close()

    assert not outlet.folder.exists()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    await eventually(lambda: web.open == 0)
    with pytest.raises(OSError, match="No such file"):
        await asyncio.open_unix_connection(str(outlet.socket_path))
    writer.close()
    outlet.close()


@pytest.fixture
def short_folder(monkeypatch):
    """The path of a socket may have a hundred characters, and pytest's own folders have more."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


async def test_a_folder_that_a_dead_process_left_is_removed_and_that_of_a_living_one_is_not(make_egress, short_folder):
    left = short_folder / "greenroom-egress-left"
    (left / "0123").mkdir(parents=True)
    first, second = make_egress(), make_egress()
    one = await first.open()
    assert not left.exists()
    await second.open()
    assert one.socket_path.is_socket()
    assert one.socket_path.stat().st_mode & 0o777 == 0o600
    first.close()
    second.close()
    assert list(short_folder.iterdir()) == []


async def test_no_outlet_is_made_by_one_that_is_closed(make_egress):
    egress = make_egress()
    egress.close()
    with pytest.raises(SandboxUnavailable):
        await egress.open()
