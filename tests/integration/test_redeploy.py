"""Replicas are replaced, by an update or by a death: turns do not notice, and readers go on where they were."""

import asyncio
import json
import warnings
from contextlib import suppress

import httpx
import psutil
import pytest
from httpx_sse import SSEError, aconnect_sse
from prometheus_client.parser import text_string_to_metric_families

LONG = {"reply": {"text": [f"tick{n} " for n in range(24)], "gap_s": 0.5}}
"""A turn of twelve seconds."""


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected, serve_environment, served, key):
    order = {"serve": json.loads(served.model_dump_json())}
    with run_node(order, **serve_environment) as address, connected(address):
        yield


@pytest.fixture
def deploy(served):
    """Deploys the application anew, which replaces every replica; returns when the new ones serve."""

    def run(replicas: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ray import serve

            from serve_app.app import APP, build

            application = build(served)
            application._bound_deployment = application._bound_deployment.options(num_replicas=replicas)
            serve.run(application, name=APP, route_prefix="/")

    async def deploy(replicas: int = 1) -> None:
        await asyncio.to_thread(run, replicas)

    return deploy


def replicas(temp_dir) -> list[psutil.Process]:
    """The replicas of this module's cluster: their parent is its raylet, which has the folder in its arguments."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.NoSuchProcess):
            if any(word.startswith("ray::ServeReplica:greenroom:Api") for word in process.info["cmdline"] or ()):
                parent = process.parent()
                if parent is not None and any(str(temp_dir) in word for word in parent.cmdline()):
                    found.append(process)
    return found


async def begin(http) -> dict:
    body = {"message": json.dumps(LONG)}
    response = await http.post("/api/v1/chat", json=body, headers={"prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return response.json()


class Reader:
    """Reads a session's events as a browser does: when its stream is cut, it comes back with the last id."""

    def __init__(self, http: httpx.AsyncClient, session_id: str) -> None:
        self._http = http
        self._path = f"/api/v1/sessions/{session_id}/events"
        self.numbers: list[int] = []
        self.types: list[str] = []
        self.connections = 0
        self.text = ""
        self.began = asyncio.Event()

    async def read(self) -> None:
        async with asyncio.timeout(110):
            while "turn.completed" not in self.types:
                last = {"last-event-id": str(self.numbers[-1])} if self.numbers else {}
                with suppress(httpx.TransportError, SSEError):
                    async with aconnect_sse(self._http, "GET", self._path, headers=last) as source:
                        if source.response.status_code == 200:
                            self.connections += 1
                            await self._follow(source)
                await asyncio.sleep(0.1)

    async def _follow(self, source) -> None:
        async for event in source.aiter_sse():
            if event.event == "message.delta":
                part = event.json()
                self.text = self.text[: part["offset"]] + part["text"]
                self.began.set()
            elif event.id and event.data:
                self.numbers.append(event.json()["seq"])
                self.types.append(event.event)
                if event.event == "turn.completed":
                    return


async def check_all_was_read(http, reader, turn) -> None:
    journal = (await http.get(f"/api/v1/sessions/{turn['session_id']}/events")).json()["data"]
    assert reader.numbers == [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
    assert reader.types[-1] == "turn.completed"
    assert "turn.recovering" not in reader.types
    assert reader.text == "".join(LONG["reply"]["text"])


async def test_an_update_keeps_turns_running_and_streams_are_resumed(http, deploy, short_dir, eventually):
    turn = await begin(http)
    reader = Reader(http, turn["session_id"])
    reading = asyncio.create_task(reader.read())
    await reader.began.wait()
    before = {process.pid for process in replicas(short_dir)}
    failed = 0

    deploying = asyncio.create_task(deploy())
    while not deploying.done():
        response = await http.get("/api/v1/models")
        failed += response.status_code != 200
        await asyncio.sleep(0.05)
    await deploying
    await reading

    async def replaced():
        return before.isdisjoint(process.pid for process in replicas(short_dir))

    await eventually(replaced, within_s=60)
    assert failed == 0
    await check_all_was_read(http, reader, turn)


async def test_a_replica_that_is_killed_cuts_streams_that_are_resumed(http, deploy, short_dir):
    await deploy(replicas=2)
    turn = await begin(http)
    readers = [Reader(http, turn["session_id"]) for _ in range(6)]
    reading = [asyncio.create_task(reader.read()) for reader in readers]
    await asyncio.wait([asyncio.create_task(reader.began.wait()) for reader in readers])

    replicas(short_dir)[0].kill()
    await asyncio.wait(reading)

    for task, reader in zip(reading, readers, strict=True):
        task.result()
        await check_all_was_read(http, reader, turn)
    assert max(reader.connections for reader in readers) >= 2


async def test_metrics_tell_replicas_apart_whichever_is_asked(http, deploy, eventually):
    await deploy(replicas=2)

    async def both():
        text = (await http.get("/metrics")).text
        names = {
            sample.labels["process"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "agent_memory_usage_bytes"
        }
        found = {name for name in names if name.startswith("api")}
        return found if len(found) == 2 else None

    first = await eventually(both)
    for _ in range(6):
        assert await both() == first
