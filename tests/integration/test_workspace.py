"""People in a session's sandbox over HTTP: HAProxy, a Serve replica, a sandbox actor, bubblewrap."""

import asyncio
import hashlib
import json

import httpx
import psutil
import pytest
from httpx_sse import aconnect_sse

from actors.security.audit import SqlAudit
from actors.security.cipher import ClearText
from actors.wiring.store import open_database
from serve_app.client import AsyncClient

MIB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected, serve_environment, served, key):
    order = {"serve": json.loads(served.model_dump_json()), "small": "/small"}
    with run_node(order, **serve_environment) as address, connected(address):
        yield


@pytest.fixture
async def session(http) -> str:
    return (await http.post("/api/v1/sessions", json={})).json()["id"]


def processes(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(marker in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


async def audited(served, session: str) -> list[tuple[str, str, str | None]]:
    async with open_database(served) as database:
        records = await SqlAudit(database, ClearText()).read(session, limit=100)
    assert {record.detail["by"] for record in records} <= {"person"}
    return [(record.action, record.decision, record.detail.get("verdict")) for record in records]


async def test_a_file_goes_in_a_command_works_on_it_and_a_file_comes_out(http, session, served):
    data = bytes(range(256)) * 20_000  # 5 MB
    at = f"/api/v1/sessions/{session}/files"
    put = await http.put(f"{at}/in/a%20b.bin", content=data)
    assert put.status_code == 201, put.text
    code = "import hashlib; open('sum', 'w').write(hashlib.sha256(open('in/a b.bin', 'rb').read()).hexdigest())"
    ran = await http.post(f"/api/v1/sessions/{session}/exec", json={"python": code})

    assert (ran.status_code, ran.json()["verdict"]) == (200, "ok"), ran.text
    assert (await http.get(f"{at}/sum")).text == hashlib.sha256(data).hexdigest()
    assert (await http.get(f"{at}/in/a%20b.bin")).content == data
    assert (await http.get(f"{at}/in/a%20b.bin", headers={"Range": "bytes=2000000-4000000"})).content == data[
        2000000:4000001
    ]
    listed = (await http.get(at)).json()["data"]
    assert {entry["path"]: entry["size_bytes"] for entry in listed} == {"in": 0, "in/a b.bin": len(data), "sum": 64}
    assert (await http.delete(f"{at}/in")).status_code == 409
    assert (await http.delete(f"{at}/in", params={"recursive": True})).status_code == 204
    assert [entry["path"] for entry in (await http.get(at)).json()["data"]] == ["sum"]
    assert await audited(served, session) == [
        ("file.write", "allowed", None),
        ("program.run", "allowed", None),
        ("program.run", "ended", "ok"),
        ("file.remove", "allowed", None),
        ("file.remove", "allowed", None),
    ]


async def test_what_the_policy_refuses_is_not_run(http, session, served):
    ran = await http.post(f"/api/v1/sessions/{session}/exec", json={"command": "nc -l 80"})
    assert (ran.status_code, ran.json()["verdict"]) == (200, "policy")
    refused = await http.put(f"/api/v1/sessions/{session}/files/.env", content=b"SECRET=1")
    assert (refused.status_code, refused.json()["code"]) == (403, "policy_refused")
    assert ("command.run", "refused", None) in await audited(served, session)


@pytest.mark.parametrize(
    "path", ["..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "%2Fetc%2Fpasswd", "a%00b", "a//b", "%ff"]
)
async def test_no_address_leads_out_of_the_workspace(http, session, path):
    """Whatever stands before the replica makes of it."""
    answer = await http.get(f"/api/v1/sessions/{session}/files/{path}")
    assert answer.status_code in {400, 404}
    assert b"root:" not in answer.content


async def test_output_comes_while_it_runs_and_the_result_last(http, session):
    code = "import time\nfor n in range(4):\n    print(n, flush=True)\n    time.sleep(0.5)"
    frames = []
    async with aconnect_sse(
        http, "POST", f"/api/v1/sessions/{session}/exec", json={"python": code, "stream": True}
    ) as source:
        frames = [frame async for frame in source.aiter_sse() if frame.data]

    assert len(frames) > 3
    assert "".join(frame.json()["text"] for frame in frames[:-1]) == "0\n1\n2\n3\n"
    assert (frames[-1].event, frames[-1].json()["verdict"]) == ("result", "ok")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_takes_its_command_with_it(http, session, served, eventually, stream):
    marker = f"98765.{int(stream)}"
    body = {"command": f"sleep {marker}", "stream": stream}

    async def running():
        return processes(marker)

    async def gone():
        return not processes(marker)

    asking = asyncio.create_task(_ask(http, session, body))
    await eventually(running)
    asking.cancel()
    await asyncio.wait([asking])
    await eventually(gone)

    async def told():
        return (await audited(served, session))[-1] == ("command.run", "ended", "cancelled")

    await eventually(told)


async def _ask(http: httpx.AsyncClient, session: str, body: dict) -> None:
    async with http.stream("POST", f"/api/v1/sessions/{session}/exec", json=body) as response:
        await response.aread()


async def test_a_session_that_is_deleted_takes_its_command_with_it(http, session, eventually):
    asking = asyncio.create_task(http.post(f"/api/v1/sessions/{session}/exec", json={"command": "sleep 98765.5"}))

    async def running():
        return processes("98765.5")

    await eventually(running)
    assert (await http.delete(f"/api/v1/sessions/{session}")).status_code == 204
    async with asyncio.timeout(30):
        answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert not processes("98765.5")


async def test_the_python_client(served, key, session):
    async with AsyncClient(f"http://127.0.0.1:{served.port}", key) as client:
        printed: list[str] = []
        await client.write_file(session, "x", b"1\n2\n")
        ended = await client.exec(session, command="wc -l x", on_output=printed.append)
        assert (ended["verdict"], ended["output"]) == ("ok", "2 x\n")
        assert await client.read_file(session, "x") == b"1\n2\n"
        await client.delete_file(session, "x")
        assert (await client.files(session))["data"] == []
