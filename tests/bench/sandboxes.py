"""The sandbox by itself: a fresh one, a command in a warm one, beside what people do without one, in the same run.

By bubblewrap beside a bare subprocess; by docker, where its daemon can be started here, beside a container for each
command and `docker exec`. By hand: `python -m tests.bench.sandboxes`.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from actors.core.settings import Settings
from actors.sandbox.base import Limits, Sandbox, SandboxBackend
from actors.testing.dockerd import Dockerd
from actors.wiring.sandbox import sandbox_backend

Figures = dict[str, dict[str, float]]


async def _median_ms(times: int, one: Callable[[], Awaitable[object]]) -> dict[str, float]:
    taken: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        await one()
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return {"p50_ms": round(statistics.median(taken), 2), "p99_ms": round(taken[int(len(taken) * 0.99)], 2)}


async def measure() -> Figures:
    results = await _with("", sandbox_backend(Settings(sandbox="bubblewrap")))
    results |= {
        "bare subprocess: /bin/true": await _median_ms(200, lambda: _bare("/bin/true")),
        "bare subprocess: python -c 1": await _median_ms(50, lambda: _bare(sys.executable, "-I", "-c", "1")),
    }
    if os.geteuid() == 0:
        with _daemon() as daemon:
            backend = sandbox_backend(Settings(sandbox="docker", sandbox_docker_host=daemon.host))
            image = await backend.build()
            results |= await _with("docker: ", backend)
            results |= await _beside_docker(daemon, image)
    return results


async def _with(prefix: str, backend: SandboxBackend) -> Figures:
    await backend.build()  # once

    async def fresh() -> None:
        sandbox = await backend.create(Limits())
        await sandbox.destroy()

    warm = await backend.create(Limits())
    try:
        return {
            f"{prefix}fresh sandbox, made and destroyed": await _median_ms(20, fresh),
            f"{prefix}warm sandbox: shell `true`": await _median_ms(200, lambda: warm.shell("true", timeout_s=10)),
            f"{prefix}warm sandbox: Python `1`": await _median_ms(200, lambda: warm.python("1", timeout_s=10)),
            f"{prefix}warm sandbox: Python `1`, variables kept": await _median_ms(200, lambda: _kept(warm)),
        }
    finally:
        await warm.destroy()
        await backend.aclose()


def _kept(sandbox: Sandbox) -> Awaitable[object]:
    """A program in the interpreter that lasts; the first of them starts it."""
    return sandbox.python("1", timeout_s=10, keep=True)


async def _beside_docker(daemon: Dockerd, image: str) -> Figures:
    """A container for each command, and a command in a container that waits, by the SDK and as hardened."""
    client = docker.DockerClient(base_url=daemon.host)
    hardened: dict[str, Any] = {
        "network_mode": "none", "read_only": True, "tmpfs": {"/workspace": "size=64m", "/tmp": "size=64m"},
        "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "pids_limit": 128, "mem_limit": "512m",
        "nano_cpus": 500_000_000, "user": "1000:1000",
    }  # fmt: skip
    waiting = client.containers.run(image, ["sleep", "1000"], detach=True, **hardened)

    def run(*command: str) -> Awaitable[object]:
        return asyncio.to_thread(client.containers.run, image, list(command), remove=True, **hardened)

    def execute(*command: str) -> Awaitable[object]:
        return asyncio.to_thread(waiting.exec_run, list(command))

    try:
        return {
            "a container for each command: true": await _median_ms(20, lambda: run("true")),
            "a container for each command: python -c 1": await _median_ms(20, lambda: run("python3", "-I", "-c", "1")),
            "docker exec: true": await _median_ms(50, lambda: execute("true")),
            "docker exec: python -c 1": await _median_ms(50, lambda: execute("python3", "-I", "-c", "1")),
        }
    finally:
        waiting.remove(force=True)
        client.close()


async def _bare(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    await process.wait()


@contextmanager
def _daemon() -> Iterator[Dockerd]:
    with tempfile.TemporaryDirectory() as folder:
        daemon = Dockerd(Path(folder))
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure()), indent=2))
