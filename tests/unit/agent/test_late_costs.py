"""A model call whose end nobody saw: its name is kept, and the session's total follows when the cost is known."""

import asyncio
from decimal import Decimal
from typing import Any

from actors.core.messages import Usage
from actors.ledger.sql import SqlLedger
from actors.ledger.truths import LateTruths
from actors.llm.base import Began, GenerationRecord, TextDelta
from actors.testing import ScriptedLLM, says


class Told:
    async def generation(self, generation_id: str, *, within_s: float = 30.0) -> GenerationRecord | None:
        return GenerationRecord(generation_id, Decimal("0.00003"), Usage(4, 2))


async def test_a_call_that_died_with_its_process_is_asked_for_by_the_name_that_it_had(world: Any) -> None:
    running = world.host(ScriptedLLM([[Began("gen_1"), TextDelta("Once"), asyncio.Event()]]))
    waiting = asyncio.create_task(running.chat(world.submit(), wait_s=5))
    async with asyncio.timeout(5):
        while [a.details["generation_id"] for a in await world.attempts()] != ["gen_1"]:  # noqa: ASYNC110 - of a row no event tells
            await asyncio.sleep(0.01)
    await world.die(running)
    waiting.cancel()

    host = world.host(ScriptedLLM(otherwise=says("upon a time")))
    await host.chat(world.submit(), wait_s=5)
    spent = (await world.book.get("sess_1", "user_1")).spent
    assert (spent.cost_micros, spent.cost_known) == (20, False)

    truths = LateTruths(SqlLedger(world.database), world.database, Told(), clock=world.clock)
    assert await truths.round() == 1
    told, _ = await world.book.page("user_1", limit=10, after=None)
    assert [(one.spent.cost_micros, one.spent.cost_known, one.spent.usage.prompt_tokens) for one in told] == [
        (50, True, 24)
    ]
    # The session that is in memory goes on counting what its own events told; nothing is counted twice.
    await host.chat(world.submit(), wait_s=5)
    spent = (await world.book.get("sess_1", "user_1")).spent
    assert (spent.cost_micros, spent.cost_known) == (60, True)
