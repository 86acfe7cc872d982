"""A docker daemon of its own, for tests and benchmarks: a folder, a Unix socket, no network, root only.

It runs in namespaces of its own for mounts and network: what it mounts goes with it, and a bridge that another
daemon of the machine has set up is out of its reach.
"""

import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ..sandbox.cgroups import Surroundings, find_control_groups

_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.05


class Dockerd:
    """A daemon in a folder that is there already. `log` holds what it said, also after it has ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder / 'docker.sock'}"
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with the end of its log."""
        # In the second version a group with processes hands no controllers down; looking for them moves ours away.
        find_control_groups(Surroundings.of_this_process())
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        command = [
            _program(), "--data-root", str(data), "--exec-root", str(self.folder / "exec"),
            "--pidfile", str(self.folder / "pid"), "--host", self.host,
            "--bridge=none", "--iptables=false", "--ip6tables=false",
        ]  # fmt: skip
        # In memory, because its storage may lie on no overlay, which is what a container's disk is.
        script = f"mount -t tmpfs -o size=2g tmpfs {shlex.quote(str(data))} && exec {shlex.join(command)}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the daemon that was found, arguments of our own
                ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_for_it(self._process)

    def stop(self) -> None:
        """End it, and with it all its containers. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def _wait_for_it(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + _START_S
        while not (self.folder / "docker.sock").is_socket() or "API listen on" not in self.log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"dockerd did not start: {self.log.read_text()[-2000:]}")
            time.sleep(_POLL_S)


def _program() -> str:
    found = shutil.which("dockerd")
    if not found:
        raise FileNotFoundError("no docker daemon is installed here: install the package `docker.io`")
    return found
