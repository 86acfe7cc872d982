"""The sandbox by itself: taken cold and warm, a command in a warm one, a hundred sessions at once, beside what people
do without one, in the same run.

By bubblewrap beside a bare subprocess; by docker, where its daemon can be started here, beside a container for each
command and `docker exec`. Each row has a time that it may take, and says how often it was measured, so that a slow
machine measures less and not longer. By hand: `python -m tests.bench.sandboxes`.
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

from actors.core.clock import SystemClock
from actors.core.settings import Settings
from actors.sandbox.base import Limits, Sandbox, SandboxBackend, SandboxSpec
from actors.sandbox.host import SandboxHost
from actors.testing.dockerd import Dockerd
from actors.wiring.sandbox import sandbox_backend

Figures = dict[str, dict[str, float]]

ROW_S = 8.0
"""A row takes no longer, but for what is under way then."""

SESSIONS, COMMANDS, PLACES = 100, 10, 16
THROUGHPUT_S = 30.0


async def _times_ms(times: int, one: Callable[[], Awaitable[object]]) -> dict[str, float]:
    taken: list[float] = []
    give_up = time.perf_counter() + ROW_S
    while len(taken) < times and (not taken or time.perf_counter() < give_up):
        started = time.perf_counter()
        await one()
        taken.append((time.perf_counter() - started) * 1000)
    return _figures(taken)


def _figures(taken: list[float]) -> dict[str, float]:
    taken = sorted(taken)
    p50, p99 = statistics.median(taken), taken[int(len(taken) * 0.99)]
    return {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "times": len(taken)}


async def measure() -> Figures:
    results = await _with("", sandbox_backend(Settings(sandbox="bubblewrap")))
    results |= {
        "bare subprocess: /bin/true": await _times_ms(200, lambda: _bare("/bin/true")),
        "bare subprocess: python -c 1": await _times_ms(50, lambda: _bare(sys.executable, "-I", "-c", "1")),
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

    capability = await backend.probe()
    warm = await backend.create(Limits())
    # The pool owns the backend: closed last, and with it everything.
    pool = SandboxHost(backend, SandboxSpec(warm=1, max_leased=PLACES, wait_s=600), capability, clock=SystemClock())
    try:
        rows = {
            "fresh sandbox, made and destroyed": await _times_ms(20, fresh),
            "warm sandbox: shell `true`": await _times_ms(200, lambda: warm.shell("true", timeout_s=10)),
            "warm sandbox: Python `1`": await _times_ms(200, lambda: warm.python("1", timeout_s=10)),
            "warm sandbox: Python `1`, variables kept": await _times_ms(200, lambda: _kept(warm)),
            "frozen and thawed": await _times_ms(50, lambda: _frozen(warm)),
            "acquired, cold": await _acquired(pool),  # nothing is kept warm before `start`
            **await _refilled(pool),
            f"{SESSIONS} sessions, {COMMANDS} commands each, {PLACES} places": await _throughput(pool),
        }
    finally:
        await warm.destroy()
        await pool.aclose()
    return {prefix + name: figures for name, figures in rows.items()}


async def _frozen(sandbox: Any) -> None:
    await sandbox.pause()
    await sandbox.resume()


async def _acquired(pool: SandboxHost) -> dict[str, float]:
    taken: list[float] = []
    give_up = time.perf_counter() + ROW_S
    while len(taken) < 20 and time.perf_counter() < give_up:
        started = time.perf_counter()
        await pool.lease("cold")
        taken.append((time.perf_counter() - started) * 1000)
        await pool.release("cold")
    return _figures(taken)


async def _refilled(pool: SandboxHost) -> Figures:
    """A warm one is taken, and it is waited until another is there: how long each took."""
    pool.start()
    acquired: list[float] = []
    refilled: list[float] = []
    give_up = time.perf_counter() + ROW_S
    await _warm(pool)
    while len(acquired) < 50 and time.perf_counter() < give_up:
        started = time.perf_counter()
        await pool.lease("warm")
        taken = time.perf_counter()
        await _warm(pool)
        acquired.append((taken - started) * 1000)
        refilled.append((time.perf_counter() - taken) * 1000)
        await pool.release("warm")
    return {"acquired, warm": _figures(acquired), "refilled": _figures(refilled)}


async def _warm(pool: SandboxHost) -> None:
    async with asyncio.timeout(60):
        while not (await pool.status()).warm:  # noqa: ASYNC110 - the pool tells nobody that it is full
            await asyncio.sleep(0.0005)


async def _throughput(pool: SandboxHost) -> dict[str, float]:
    """Sessions come all at once, wait for a place, use it, give it back. What is not done in time does not count."""
    done = 0
    started = time.perf_counter()

    async def session(number: int) -> None:
        nonlocal done
        for _ in range(COMMANDS):
            result = await pool.shell(f"s{number}", "true", timeout_s=60)
            done += result.verdict == "ok"
        await pool.release(f"s{number}")

    tasks = [asyncio.create_task(session(number)) for number in range(SESSIONS)]
    await asyncio.wait(tasks, timeout=THROUGHPUT_S)
    took_s = time.perf_counter() - started
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return {"commands_per_s": round(done / took_s, 1), "commands": done, "s": round(took_s, 1)}


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
            "a container for each command: true": await _times_ms(10, lambda: run("true")),
            "a container for each command: python -c 1": await _times_ms(10, lambda: run("python3", "-I", "-c", "1")),
            "docker exec: true": await _times_ms(20, lambda: execute("true")),
            "docker exec: python -c 1": await _times_ms(20, lambda: execute("python3", "-I", "-c", "1")),
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
