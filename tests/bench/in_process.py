"""What a session costs by itself: no Ray, no HTTP, a host over a real SQLite journal."""

import asyncio
import gc
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from actors.agent.host import SessionHost
from actors.agent.payloads import Payloads
from actors.agent.sessions import NewSession, Submit
from actors.agent.sql_journal import SqlJournal
from actors.core.clock import SystemClock
from actors.core.ids import uuid7_ids
from actors.core.messages import AssistantMessage, Usage
from actors.core.settings import Settings
from actors.llm.base import Answer, ModelInfo, ModelRequest, StreamItem, TextDelta
from actors.security.audit import SqlAudit
from actors.security.cipher import ClearText
from actors.store.migrate import upgrade
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from actors.wiring import sessions, store

REPLY = "A short answer of about a hundred characters, which is what a turn of a chat often comes down to."


class InstantModel:
    """Answers at once."""

    default_model = "bench"

    async def stream(self, request: ModelRequest) -> AsyncIterator[StreamItem]:
        yield TextDelta(REPLY)
        yield Answer(
            AssistantMessage(REPLY),
            request.model,
            "stop",
            usage=Usage(100, 25),
            cost_usd=Decimal("0.0001"),
            cost_source="upstream",
        )

    async def models(self) -> tuple[ModelInfo, ...]:
        return ()

    async def aclose(self) -> None:
        return


@asynccontextmanager
async def host(home: str) -> AsyncIterator[SessionHost]:
    clock = SystemClock()
    settings = Settings(home=home, session_idle_s=0.001, sessions_per_actor=100_000)
    upgrade(settings.resolved_database_url)
    async with store.open_database(settings) as database:
        yield sessions.session_host(
            settings,
            journal=SqlJournal(database, Payloads(ClearText())),
            llm=InstantModel(),
            sandboxes=FakeSandboxes(),
            memories=DictMemories(),
            audit=SqlAudit(database, ClearText()),
            clock=clock,
        )


async def talk(target: SessionHost, session_id: str, turns: int) -> None:
    new_id = uuid7_ids(SystemClock())
    for turn in range(turns):
        new = NewSession("bench") if turn == 0 else None
        command = Submit(session_id, "user", new_id("msg"), new_id("turn"), "Tell me something new.", new=new)
        await target.chat(command, wait_s=30)


async def turn_ms(turns: int = 300) -> dict[str, float]:
    """A turn in one process: journal, loop, ledger. And what it writes."""
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as home:
        async with host(home) as target:
            await talk(target, "warm", 5)
            started, cpu = time.perf_counter(), time.process_time()
            await talk(target, "timed", turns)
            wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"wall_ms": round(wall / turns * 1000, 2), "cpu_ms": round(cpu / turns * 1000, 2)}


async def activation_ms(sessions: int = 200, turns: int = 20) -> dict[str, float]:
    """From the journal into memory, for sessions of `turns` turns."""
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as home:
        async with host(home) as target:
            for number in range(sessions):
                await talk(target, f"s{number}", turns)
            while target.status().sessions:
                await target.sweep()
                await asyncio.sleep(0.01)
            times: list[float] = []
            for number in range(sessions):
                started = time.perf_counter()
                await target.wake(f"s{number}")
                times.append((time.perf_counter() - started) * 1000)
    times.sort()
    return {
        "turns": turns,
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(times[int(len(times) * 0.99)], 2),
        "per_s": round(1000 * len(times) / sum(times), 1),
    }


async def resident_bytes(sessions: int = 2000, turns: int = 3) -> dict[str, float]:
    """Memory of an idle session that is still resident."""
    with tempfile.TemporaryDirectory(prefix="gr-bench-") as home:
        async with host(home) as target:
            await talk(target, "warm", turns)
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            for number in range(sessions):
                await talk(target, f"s{number}", turns)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    kib = (after - before) / sessions / 1024
    return {"turns": turns, "kib_per_session": round(kib, 1), "sessions_per_gib": int(1024 * 1024 // kib)}
