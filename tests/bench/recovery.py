"""How long a turn stands still when the process that runs it is killed, and what such a process weighs."""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from .cluster import Cluster

KILLS = 12
SLOW = {"reply": {"text": ["tick "] * 40, "gap_s": 0.25}}
"""A turn of ten seconds: the kill comes in its midst."""

_HOSTS = """
import asyncio, json, os, sys
from pathlib import Path
from actors.connect import connect

async def main():
    greenroom = await connect(Path(sys.argv[1]))
    from actors.register import SESSION_PREFIX, named_actors

    for line in sys.stdin:
        found = {}
        for name, actor in named_actors(SESSION_PREFIX, "greenroom").items():
            pid = await actor.__ray_call__.remote(lambda _: __import__("os").getpid())
            found[name] = [pid, list((await actor.status.remote()).sessions)]
        print(json.dumps(found), flush=True)

asyncio.run(main())
"""


@contextmanager
def _asking(home: Path) -> Iterator[Any]:
    """Asks for {session actor: (pid, sessions)}, from a process of its own that holds Ray's connection."""
    command = [sys.executable, "-c", _HOSTS, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> dict[str, tuple[int, list[str]]]:
            process.stdin.write("?\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            yield ask
        finally:
            process.stdin.close()


def measure(cluster: Cluster, kills: int = KILLS) -> dict[str, float]:
    """Seconds from `kill -9` of a turn's process to the turn's next journalled event."""
    waits: list[float] = []
    headers = {"Authorization": f"Bearer {cluster.key}"}
    with _asking(cluster.home) as ask, httpx.Client(base_url=cluster.url, headers=headers, timeout=30) as http:
        for _ in range(kills):
            waits.append(_one_kill(http, ask))
    waits.sort()
    return {
        "kills": kills,
        "p50_s": round(statistics.median(waits), 2),
        "p99_s": round(waits[min(len(waits) - 1, int(len(waits) * 0.99))], 2),
    }


def _one_kill(http: httpx.Client, ask: Any) -> float:
    accepted = http.post("/api/v1/chat", json={"message": json.dumps(SLOW)}, headers={"Prefer": "respond-async"})
    session_id = accepted.raise_for_status().json()["session_id"]
    events = f"/api/v1/sessions/{session_id}/events"
    deadline = time.monotonic() + 60
    pid = None
    while pid is None:
        assert time.monotonic() < deadline, "no session actor says that it has the session"
        pid = next((pid for pid, sessions in ask().values() if session_id in sessions), None)
    before = http.get(events).json()["last_seq"]
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    while http.get(events, params={"after": before}).json()["last_seq"] == before:
        assert time.monotonic() < killed + 60, "the turn did not go on"
        threading.Event().wait(0.02)
    waited = time.monotonic() - killed
    while http.get(f"/api/v1/turns/{accepted.json()['turn_id']}").json()["finished_at"] is None:
        assert time.monotonic() < killed + 120, "the turn did not end"
        threading.Event().wait(0.2)
    return waited


def process_mib(cluster: Cluster) -> dict[str, float]:
    """Private memory of a session actor: what a session costs that has a process of its own."""
    with _asking(cluster.home) as ask:
        sizes = sorted(_private_mib(pid) for pid, _ in ask().values())
    middle = statistics.median(sizes)
    return {"mib_per_process": round(middle, 1), "dedicated_sessions_per_gib": int(1024 // middle)}


def _private_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = (int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return sum(private) / 1024
