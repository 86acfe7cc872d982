"""Turns over HTTP, beside the bare application, against the same model server in the same run."""

import json
from collections import Counter
from pathlib import Path

import aiohttp

from .cluster import Cluster
from .load import Latency, measure

CLIENTS = (1, 16, 64)
REQUESTS = {1: 200, 16: 1600, 64: 1600}
DELTAS = 200
TURNS_A_SESSION = 10
"""Then a client opens another: each turn brings the whole talk to the model, and long ones would be what is timed."""


def script(folder: Path) -> Path:
    """The model's replies: a short one, and a long one of `DELTAS` pieces for messages that say so."""
    file = folder / "script.json"
    long = {"text": [f"word{number} " for number in range(DELTAS)]}
    file.write_text(
        json.dumps({"rules": [{"marker": "LONG", "replies": [long]}], "otherwise": {"text": ["Hello", "!"]}})
    )
    return file


async def turns(cluster: Cluster, clients: int) -> Latency:
    """JSON turns, each client in sessions of its own."""
    sessions: dict[int, str] = {}
    done: Counter[int] = Counter()

    async def one(http: aiohttp.ClientSession, number: int) -> None:
        body = {"message": "hello"}
        if done[number] % TURNS_A_SESSION:
            body["session_id"] = sessions[number]
        async with http.post(f"{cluster.url}/api/v1/chat", json=body) as response:
            answer = await response.json()
            assert response.status == 200, answer
        sessions[number] = answer["session_id"]
        done[number] += 1

    return await measure(clients, REQUESTS[clients], one, {"Authorization": f"Bearer {cluster.key}"})


async def bare(url: str, clients: int) -> Latency:
    async def one(http: aiohttp.ClientSession, _: int) -> None:
        async with http.post(f"{url}/chat", json={"message": "hello"}) as response:
            assert response.status == 200
            await response.read()

    return await measure(clients, REQUESTS[clients], one, {})


async def streams(cluster: Cluster, clients: int) -> Latency:
    """Streamed turns of `DELTAS` pieces, read to the end."""

    async def one(http: aiohttp.ClientSession, _: int) -> None:
        body = {"message": "LONG", "stream": True}
        async with http.post(f"{cluster.url}/api/v1/chat", json=body) as response:
            assert response.status == 200
            assert b"turn.completed" in await response.read()

    return await measure(clients, 20 * clients, one, {"Authorization": f"Bearer {cluster.key}"})


async def bare_streams(url: str, clients: int) -> Latency:
    async def one(http: aiohttp.ClientSession, _: int) -> None:
        async with http.post(f"{url}/stream", json={"message": "LONG"}) as response:
            assert response.status == 200
            await response.read()

    return await measure(clients, 20 * clients, one, {})
