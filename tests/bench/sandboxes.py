"""The sandbox by itself: a fresh one, a command in a warm one, beside a bare subprocess in the same run."""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from actors.sandbox.base import Limits
from actors.wiring.sandbox import sandbox_backend


async def _median_ms(times: int, one: Callable[[], Awaitable[object]]) -> dict[str, float]:
    taken: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        await one()
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return {"p50_ms": round(statistics.median(taken), 2), "p99_ms": round(taken[int(len(taken) * 0.99)], 2)}


async def measure() -> dict[str, dict[str, float]]:
    backend = sandbox_backend(None)
    await backend.probe()  # builds the root filesystem, once

    async def fresh() -> None:
        sandbox = await backend.create(Limits())
        await sandbox.destroy()

    async def bare() -> None:
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()

    async def bare_python() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "1")
        await process.wait()

    warm = await backend.create(Limits())
    try:
        results = {
            "fresh sandbox, made and destroyed": await _median_ms(20, fresh),
            "warm sandbox: shell `true`": await _median_ms(200, lambda: warm.shell("true", timeout_s=10)),
            "warm sandbox: Python `1`": await _median_ms(200, lambda: warm.python("1", timeout_s=10)),
            "bare subprocess: /bin/true": await _median_ms(200, bare),
            "bare subprocess: python -c 1": await _median_ms(50, bare_python),
        }
    finally:
        await warm.destroy()
        await backend.aclose()
    return results
