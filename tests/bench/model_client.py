"""What the client of models adds to a call, beside httpx that reads the same answers and makes nothing of them."""

import json
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias

import httpx

from actors.core.clock import SystemClock
from actors.core.messages import UserMessage
from actors.llm.base import Answer, ModelRequest
from actors.llm.breakers import BreakerPolicy, Breakers
from actors.llm.limits import CallLimits, FairSlots, LimitedLLM
from actors.llm.openai import OpenAIClient

CALLS = 100
FEW, MANY = 1, 401
_ONE = "A word or two. "

Ask: TypeAlias = Callable[[str], Awaitable[None]]


async def measure(model_url: str) -> dict[str, float]:
    """Microseconds of wall time, medians; both take turns, so that what else the machine does meets both alike."""
    clock = SystemClock()
    client = OpenAIClient(
        base_url=model_url, default_model="bench", breakers=Breakers(BreakerPolicy(), clock=clock), clock=clock
    )
    limited = LimitedLLM(client, FairSlots(CallLimits(calls=100, calls_per_model=100), clock=clock))

    async def ours(message: str) -> None:
        async with aclosing(limited.stream(ModelRequest("bench", (UserMessage(message),)))) as items:
            last = [item async for item in items][-1]
        assert isinstance(last, Answer)

    async with httpx.AsyncClient(timeout=30) as raw:

        async def bare(message: str) -> None:
            body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": message}]}
            async with raw.stream("POST", f"{model_url}/chat/completions", json=body) as response:
                assert response.status_code == 200
                async for _ in response.aiter_bytes():
                    pass

        few = await _medians_us((ours, bare), FEW)
        many = await _medians_us((ours, bare), MANY)
    await limited.aclose()
    ours_chunk, bare_chunk = ((many[n] - few[n]) / (MANY - FEW) for n in (0, 1))
    return {
        "us_per_call": round(few[0], 1),
        "bare_us_per_call": round(few[1], 1),
        "added_us_per_call": round(few[0] - few[1], 1),
        "us_per_chunk": round(ours_chunk, 2),
        "bare_us_per_chunk": round(bare_chunk, 2),
        "added_us_per_chunk": round(ours_chunk - bare_chunk, 2),
    }


async def _medians_us(asks: tuple[Ask, ...], chunks: int) -> list[float]:
    message = json.dumps({"reply": {"text": [_ONE] * chunks}})
    times: list[list[float]] = [[] for _ in asks]
    for number in range(CALLS + 5):
        for ask, taken in zip(asks, times, strict=True):
            started = time.perf_counter()
            await ask(message)
            if number >= 5:
                taken.append((time.perf_counter() - started) * 1e6)
    return [statistics.median(taken) for taken in times]
