"""The servers of a run beside Ray and the database, each a process that can be killed and started again."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from .waiting import eventually

START_S = 30.0


class MissingProgram(RuntimeError):
    """A server is not installed. The message says how to install it."""


class Server:
    """A program that listens on a port of loopback."""

    def __init__(self, command: tuple[str, ...], port: int, log: Path) -> None:
        self.port = port
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        await asyncio.to_thread(self._spawn)
        if not await eventually(lambda: is_listening(self.port), within_s=START_S):
            raise RuntimeError(f"{self._command[0]} does not listen:\n{self._log.read_text()[-2000:]}")

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            # The terminal's Ctrl-C is for the run, which ends its servers when it is done with them.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait, START_S)


def redis(folder: Path, port: int) -> Server:
    """What Ray's GCS keeps its tables in. A write is in its log before it is answered."""
    command = (
        *("redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
        *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
    )
    return Server(command, port, folder / "redis.log")


def model_server(folder: Path, port: int) -> Server:
    """The scripted model server: a message says what is answered to it."""
    command = (sys.executable, "-m", "actors.testing.model_server", "--port", str(port))
    return Server(command, port, folder / "model.log")


async def answers_by_tag(server: Server) -> dict[str, int]:
    """How often the model server has answered, by the tag of the message."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{server.port}/_tags")).json()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def require(database: str) -> None:
    """Raises `MissingProgram` when a server that the run needs is not installed."""
    if shutil.which("redis-server") is None:
        raise MissingProgram("There is no redis-server; as root: apt-get install redis-server")
    has_postgres = shutil.which("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if database == "postgresql" and not has_postgres:
        raise MissingProgram("There is no PostgreSQL server; as root: apt-get install postgresql")
