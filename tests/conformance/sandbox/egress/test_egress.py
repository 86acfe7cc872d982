"""A way out is what its rules name, and nothing beside it: tried from inside, in every kind of sandbox."""

import asyncio
import json

import pytest

from actors.sandbox.base import Level
from actors.sandbox.bubblewrap import BubblewrapBackend

ALLOWED = "allowed.example.org"

# What every program of these tests begins with.
_BEGINNING = """
import http.client, json, socket, ssl, urllib.error, urllib.request

def fetch(url, **options):
    try:
        context = ssl.create_default_context(cafile="ca") if url.startswith("https") else None
        with urllib.request.urlopen(url, timeout=20, context=context, **options) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
"""


@pytest.fixture
async def run(host, authority):
    """Run a program in the session's sandbox; what it printed, as JSON."""
    await host.write("s", "ca", authority.pem)

    async def running(code, session="s"):
        result = await host.python(session, _BEGINNING + code, timeout_s=60)
        assert result.verdict == "ok", result.output
        return json.loads(result.output)

    return running


async def test_the_isolation_is_what_it_was_and_the_domains_are_said(backend):
    capability = await backend.probe()
    assert capability.level.reaches(Level.NAMESPACE), capability
    assert not capability.missing
    assert capability.egress == (ALLOWED, "*.below.example.org")


async def test_allowed_domains(run, web, tls, log):
    urls = [
        f"http://{ALLOWED}:{web.port}/a",
        f"https://{ALLOWED}:{tls.port}/b",
        f"https://a.below.example.org:{tls.port}/c",
    ]
    found = await run(f"print(json.dumps([fetch(url) for url in {urls!r}]))")
    assert found == [f"served GET /{path} HTTP/1.1\n" for path in "abc"]
    assert log.allowed == [(ALLOWED, web.port), (ALLOWED, tls.port), ("a.below.example.org", tls.port)]
    assert set(log.sessions) == {"s"}


async def test_a_program_of_the_system_finds_its_way(host, run, web, tls, log):
    command = f"curl -sS --cacert ca -d body https://{ALLOWED}:{tls.port}/x http://{ALLOWED}:{web.port}/y"
    result = await host.shell("s", command, timeout_s=30)
    assert result.output == "served POST /x HTTP/1.1\nserved POST /y HTTP/1.1\n"
    result = await host.shell("s", f"curl -sS http://evil.org:{web.port}/", timeout_s=30)
    assert "evil.org is not among the allowed domains" in result.output
    result = await host.shell("s", "curl -sS https://evil.org/", timeout_s=30)
    assert result.verdict == "nonzero"
    assert "403" in result.output


async def test_what_is_not_allowed_is_said_in_words(run, web, tls, log, names):
    names["rebound.below.example.org"] = ["10.0.0.1"]
    names["metadata.below.example.org"] = ["169.254.169.254"]
    urls = [
        f"http://evil.org:{web.port}/", f"https://evil.org:{tls.port}/", f"http://below.example.org:{web.port}/",
        f"http://8.8.8.8:{web.port}/", f"http://[::1]:{web.port}/", f"http://10.0.0.1:{web.port}/",
        f"http://169.254.169.254:{web.port}/", f"http://2130706433:{web.port}/", f"http://{ALLOWED}:22/",
        f"http://rebound.below.example.org:{web.port}/", f"http://metadata.below.example.org:{web.port}/",
    ]  # fmt: skip
    found = await run(f"print(json.dumps([fetch(url) for url in {urls!r}]))")
    assert len(found) == len(urls)
    assert all("403" in answer for answer in found), found
    assert "not among the allowed domains" in found[0]
    assert "evil.org is not among the allowed domains" in found[1]  # in the one line that the client shows
    assert web.requests == tls.requests == []
    assert log.allowed == []
    assert log.refused == ["domain"] * 3 + ["address"] * 4 + ["host", "port", "address", "address"]


async def test_a_name_that_changes_its_mind(run, web, names, asked):
    names[ALLOWED] = [["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"]]
    url = f"http://{ALLOWED}:{web.port}/"
    found = await run(f"print(json.dumps([fetch({url!r}) for _ in range(3)]))")
    assert [answer[:6] for answer in found] == ["served", "403 Gr", "served"]
    assert asked == [ALLOWED] * 3


async def test_another_name_in_the_tunnel(run, tls, log):
    code = f"""
with socket.create_connection(("127.0.0.1", 3128), timeout=20) as tunnel:
    tunnel.sendall(b"CONNECT {ALLOWED}:{tls.port} HTTP/1.1\\r\\n\\r\\n")
    assert tunnel.recv(1000).startswith(b"HTTP/1.1 200")
    try:
        with ssl.create_default_context(cafile="ca").wrap_socket(tunnel, server_hostname="other.example.org"):
            print(json.dumps("open"))
    except ssl.SSLError as error:
        print(json.dumps(str(error)))
"""
    assert "unrecognized name" in (await run(code)).lower().replace("_", " ")
    assert log.refused == ["tls"]
    assert tls.requests == []


async def test_nothing_leads_past_the_proxy(run, web, datagrams):
    """Straight connections, datagrams, names asked of other resolvers, raw packets: to the host and to the world."""
    port, datagram_port = web.port, datagrams.getsockname()[1]
    code = f"""
answers = {{}}
for address in (("127.0.0.1", {port}), ("192.0.2.1", 80), ("8.8.8.8", 53), ("10.0.0.1", 53), ("169.254.169.254", 80)):
    with socket.socket() as s:
        s.settimeout(2)
        answers[f"tcp {{address}}"] = s.connect_ex(address)
query = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7example\\3org\\0\\0\\1\\0\\1"
for address in (("127.0.0.1", {datagram_port}), ("8.8.8.8", 53), ("192.0.2.1", 53), ("169.254.169.253", 53)):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        try:
            s.sendto(query, address)
            s.recvfrom(512)
            answers[f"udp {{address}}"] = 0
        except OSError as error:
            answers[f"udp {{address}}"] = error.errno or str(error)
for address in ("::1", "2001:4860:4860::8888"):
    with socket.socket(socket.AF_INET6) as s:
        s.settimeout(2)
        answers[address] = s.connect_ex((address, {port}))
for kind, family in ((socket.SOCK_RAW, socket.AF_INET), (socket.SOCK_RAW, 17)):
    try:
        socket.socket(family, kind, 1).close()
        answers[f"raw {{family}}"] = 0
    except OSError as error:
        answers[f"raw {{family}}"] = error.errno
try:
    socket.getaddrinfo({ALLOWED!r}, 443)
    answers["resolved"] = 0
except OSError as error:
    answers["resolved"] = error.errno
interfaces = [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line]
answers["interfaces"] = int(interfaces in ([], ["lo"]))
print(json.dumps(answers))
"""
    answers = await run(code)
    assert len(answers) == 5 + 4 + 2 + 2 + 2
    assert all(answers.values()), answers
    with pytest.raises(BlockingIOError):
        datagrams.recv(10)
    assert web.requests == []


async def test_programs_that_do_not_know_of_the_proxy_reach_nothing(run, web):
    code = f"""
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({{}})))
print(json.dumps(fetch("http://{ALLOWED}:{web.port}/")))
"""
    assert "URLError" in await run(code)
    assert web.requests == []


async def test_what_a_sandbox_serves_to_itself_is_reached(run):
    code = """
import http.server, threading
http.server.SimpleHTTPRequestHandler.log_message = lambda *_: None
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps("ca" in fetch("http://127.0.0.1:8000/")))
server.shutdown()
server.server_close()
"""
    assert await run(code) is True


async def test_nobody_reaches_the_way_out_of_another(host, run, egress, web, log):
    await run("print(1)", session="t")
    paths = [str(outlet.socket_path) for outlet in egress._outlets]
    assert len(paths) >= 2
    code = f"""
import os
found = []
for path in {paths!r}:
    with socket.socket(socket.AF_UNIX) as s:
        found.append(s.connect_ex(path))
kinds = []
for attempt in (lambda: open("/egress/x", "w"), lambda: os.unlink("/egress/proxy")):
    try:
        attempt()
        kinds.append("done")
    except OSError:
        kinds.append("refused")
print(json.dumps([all(found), os.path.exists("/egress/proxy"), kinds]))
"""
    assert await run(code) == [True, True, ["refused", "refused"]]
    for session in ("s", "t"):
        await run(f"print(json.dumps(fetch('http://{ALLOWED}:{web.port}/')))", session=session)
    assert log.sessions == ["s", "t"]


async def test_a_warm_sandbox_may_nothing_until_it_is_leased(backend, limits, web, log):
    sandbox = await backend.create(limits)
    code = _BEGINNING + f"print(fetch('http://{ALLOWED}:{web.port}/'))"
    assert "belongs to no session yet" in (await sandbox.python(code, timeout_s=30)).output
    sandbox.assign("s")
    assert "served" in (await sandbox.python(code, timeout_s=30)).output
    assert log.sessions == ["s"]
    await sandbox.destroy()


async def test_the_end_of_a_command_is_the_end_of_its_connections(host, run, web, eventually):
    waits = f"setsid curl -sS http://{ALLOWED}:{web.port}/silent & sleep 1"
    command = asyncio.create_task(host.shell("s", f"{waits}; sleep 30", timeout_s=60))
    await eventually(lambda: web.open == 1)
    command.cancel()
    await asyncio.wait({command})
    await eventually(lambda: web.open == 0)

    command = asyncio.create_task(host.shell("s", f"curl -sS http://{ALLOWED}:{web.port}/silent", timeout_s=60))
    await eventually(lambda: web.open == 1)
    await host.interrupt("s")
    assert (await command).verdict == "cancelled"
    await eventually(lambda: web.open == 0)


async def test_the_end_of_a_sandbox_is_the_end_of_its_way_out(host, run, egress, web, eventually):
    command = asyncio.create_task(host.shell("s", f"curl -sS http://{ALLOWED}:{web.port}/silent", timeout_s=60))
    await eventually(lambda: web.open == 1)
    [outlet] = [outlet for outlet in egress._outlets if outlet._account.session_id == "s"]
    await host.release("s")
    await command
    await eventually(lambda: web.open == 0)
    assert not outlet.folder.exists()


async def test_many_connections_are_bounded_and_the_agent_lives(run, host, web, log, egress_limits):
    code = f"""
import resource
answers = []
for round in range(5):
    ends = [socket.create_connection(("127.0.0.1", 3128), timeout=20) for _ in range(60)]
    for end in ends:
        end.sendall(b"GET http://{ALLOWED}:{web.port}/silent HTTP/1.1\\r\\n\\r\\n")
    for end in ends[8:]:
        answers.append(end.recv(13).decode())
    for end in ends:
        end.close()
print(json.dumps([len(answers), sorted(set(answers))]))
"""
    count, answers = await run(code)
    assert count == 5 * 52
    assert "HTTP/1.1 429 " in answers
    assert await host.list("s")


async def test_without_domains_nothing_is_different(cache, limits):
    """The default: no folder, no port, no variable."""
    backend = BubblewrapBackend(cache)
    sandbox = await backend.create(limits)
    code = """
import json, os, socket
with socket.socket() as s:
    refused = s.connect_ex(("127.0.0.1", 3128))
print(json.dumps([os.path.exists("/egress"), bool(refused), [n for n in os.environ if "proxy" in n.lower()]]))
"""
    assert json.loads((await sandbox.python(code, timeout_s=30)).output) == [False, True, []]
    assert (await backend.probe()).egress == ()
    await backend.aclose()
