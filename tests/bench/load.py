"""The load: clients that each go through their requests one after the other. aiohttp, for it is the cheapest."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import aiohttp


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds and requests per second."""

    clients: int
    p50_ms: float
    p99_ms: float
    per_s: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


async def measure(
    clients: int, requests: int, one: Callable[[aiohttp.ClientSession, int], Awaitable[None]], headers: dict[str, str]
) -> Latency:
    """`requests` in all, over `clients` that work side by side. `one` gets the number of its client."""
    times: list[float] = []
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=clients + 1)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as http:

        async def client(number: int, count: int, kept: list[float]) -> None:
            for _ in range(count):
                started = time.perf_counter()
                await one(http, number)
                kept.append(time.perf_counter() - started)

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number, 5, []))
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(client(number, max(1, requests // clients), times))
        seconds = time.perf_counter() - started
    times.sort()
    return Latency(
        clients,
        round(statistics.median(times) * 1000, 2),
        round(times[int(len(times) * 0.99)] * 1000, 2),
        round(len(times) / seconds, 1),
    )
