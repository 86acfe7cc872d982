"""An S3 server of its own for tests: moto in a process of its own, on loopback, with one bucket in memory."""

import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

BUCKET = "greenroom-test"

_START_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.05


class S3Server:
    """Started with `start` and ended with `stop`. It checks no signature, so any credentials will do."""

    environment = {  # noqa: RUF012  read only
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    """What a client needs in its environment."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the bucket is there. Raises RuntimeError with what the server said."""
        with tempfile.NamedTemporaryFile() as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self.endpoint = self._wait_for_it(self._process, Path(log.name))
        request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")  # noqa: S310  our own loopback
        with urllib.request.urlopen(request, timeout=_START_S):  # noqa: S310
            pass

    def stop(self) -> None:
        """As when the machine fails. What it held is gone. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_S)

    def _wait_for_it(self, process: "subprocess.Popen[bytes]", log: Path) -> str:
        deadline = time.monotonic() + _START_S
        while True:
            said = log.read_text(errors="replace")
            if found := re.search(r"http://127\.0\.0\.1:\d+", said):
                return found[0]
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the S3 server did not start: {said[-2000:]}")
            time.sleep(_POLL_S)
