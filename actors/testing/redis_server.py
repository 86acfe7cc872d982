"""A Redis server of its own, for tests and benchmarks: a folder, a free port on loopback."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

_START_S = 10.0
_STOP_S = 10.0
_POLL_S = 0.01


class RedisServer:
    """Started with `start`; it can be killed, and started again at the same port.

    `kept`: what it was told is on disk before it answers, and there again after a start. Else it begins empty.
    """

    def __init__(self, folder: Path, *, kept: bool = False) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        settings = {"bind": "127.0.0.1", "port": self.port, "dir": folder, "save": ""}
        settings |= {"appendonly": "yes" if kept else "no", "appendfsync": "always"}
        self._command = [_program(), *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError."""
        process = self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)  # noqa: S603 - as in `postgres.py`
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("redis-server does not answer")
            time.sleep(_POLL_S)  # it tells nobody when it is there

    def stop(self) -> None:
        """As when the machine fails. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_S)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _program() -> str:
    found = shutil.which("redis-server")
    if not found:
        raise FileNotFoundError("no Redis server is installed here: install the package `redis-server`")
    return found
