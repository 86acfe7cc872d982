"""A dollar, and 256 clients who want it at once, over HTTP and against a server that keeps its own bill."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.testing.redis_server import RedisServer
from cluster.ports import free_ports

CLIENTS = 256
TRIES_MAX = 100
"""Of each client, while a Redis that was killed is not back."""

CROWD_S = 240.0
UP_S = 170


@pytest.fixture
def model_url(tmp_path: Path) -> Iterator[str]:
    """Each answer costs about a third of a cent, and takes a while."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"otherwise": {"text": "Yes.", "completion_tokens": 900, "delay_s": 0.1}}))
    command = [sys.executable, "-m", "actors.testing.model_server", "--script", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


class Crowd:
    """Clients that open sessions and say something until there is no money left."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}
        self.answers: Counter[int] = Counter()

    async def run(self, beside: Callable[[], Any] | None) -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with (
            httpx.AsyncClient(base_url=self._url, headers=self._headers, limits=limits, timeout=60) as http,
            asyncio.timeout(CROWD_S),
            asyncio.TaskGroup() as group,
        ):
            for _ in range(CLIENTS):
                group.create_task(self._client(http))
            if beside is not None:
                group.create_task(beside())

    async def _client(self, http: httpx.AsyncClient) -> None:
        for _ in range(TRIES_MAX):
            answer = await http.post("/api/v1/chat", json={"message": "May I?"})
            self.answers[answer.status_code] += 1
            if answer.status_code == 402:
                assert answer.json()["limit_micros"] == 1_000_000, answer.text
                return
            if answer.status_code != 200:
                # The ledger's server is away: nothing was sent, and the client asks again.
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(float(answer.headers.get("Retry-After", 0.5)))
        raise AssertionError(f"no end: {self.answers}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("admits", ["sqlite", "redis"])
async def test_256_clients_use_up_a_dollar_and_no_more(
    make_home: Callable[[], Any],
    model_url: str,
    admits: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    home, port = make_home(), free_ports(1)[0]
    home.environment.update(
        GREENROOM_LLM_BASE_URL=model_url,
        GREENROOM_LLM_DIALECT="openrouter",
        GREENROOM_MODEL="scripted",
        GREENROOM_BUDGET_USER_HOUR_MICROS="0",
        GREENROOM_BUDGET_USER_DAY_MICROS="1000000",
        GREENROOM_BUDGET_USER_MONTH_MICROS="0",
    )
    with ExitStack() as stack:
        server = RedisServer(tmp_path)
        if admits == "redis":
            server.start()
            stack.callback(server.stop)
            home.environment["GREENROOM_BUDGET_REDIS_URL"] = server.url
        done = await asyncio.to_thread(home.greenroom, "up", "--detach", "--port", str(port), timeout_s=UP_S)
        assert done.returncode == 0, done.stdout + done.stderr
        crowd = Crowd(f"http://127.0.0.1:{port}", (home.folder / "admin.key").read_text().strip())

        async def kill_redis() -> None:
            """When two fifths are spent. It comes back and knows nothing."""
            async with httpx.AsyncClient() as http:
                while await billed(http, model_url) < 0.4:  # noqa: ASYNC110 - known to another process
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)

        await crowd.run(kill_redis if admits == "redis" else None)
        async with httpx.AsyncClient() as http:
            spent = await billed(http, model_url)
        done = await asyncio.to_thread(home.greenroom, "costs", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        record_property(f"share of the limit used, {admits}", spent)
        record_property(f"answers, {admits}", dict(crowd.answers))
        assert 0.99 <= spent <= 1, crowd.answers
        assert json.loads(done.stdout)["totals"]["cost"]["micros"] == round(spent * 1_000_000)
        await asyncio.to_thread(home.greenroom, "down", timeout_s=120)


async def billed(http: httpx.AsyncClient, model_url: str) -> float:
    """US dollars, by the model server's own count."""
    answer = await http.get(f"{model_url.removesuffix('/v1')}/_bill")
    return float(answer.json()["cost_usd"])
