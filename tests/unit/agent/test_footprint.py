"""What an idle session that is still resident takes: it must be so little that thousands fit in a process."""

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from actors.testing import ScriptedLLM, says
from actors.testing.llm import Script

SESSIONS = 300
TURNS = 3
MAX_BYTES = 40 * 1024


class Talkative(ScriptedLLM):
    """Says something else each time, as models do: equal texts would be one object."""

    def _next_script(self) -> Script:
        return says(f"{REPLY} {len(self.requests)}")


REPLY = "A short answer of about a hundred characters, which is what a turn of a chat often comes down to."


async def test_thousands_of_idle_sessions_fit_in_a_process(
    world: Any, until: Callable[..., Any], record_property: Callable[[str, object], None]
) -> None:
    host = world.host(Talkative(), sessions_per_actor=2 * SESSIONS)

    async def talk(session_id: str) -> None:
        for _ in range(TURNS):
            await host.chat(world.submit(f"Tell me something about {session_id}.", session_id), wait_s=30)

    async def talk_all(sessions: range) -> None:
        async with asyncio.TaskGroup() as group:
            for number in sessions:
                group.create_task(talk(f"sess_{number}"))

    await talk_all(range(20))  # what is made once is made now
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await talk_all(range(20, 20 + SESSIONS))
        await until(lambda: host.status().running == 0)
        host._loop._model._llm.requests.clear()  # the script's own memory of what it was asked
        host._journal.appends.clear()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(host.status().sessions) == 20 + SESSIONS
    each = (after - before) / SESSIONS
    record_property("bytes_per_session", round(each))
    assert each < MAX_BYTES
    print(f"{each:,.0f} bytes for each idle session of {TURNS} turns")
