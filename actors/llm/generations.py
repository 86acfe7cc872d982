"""What a gateway says afterwards of one answer: the only way to learn what one that was broken off has cost."""

from collections.abc import Awaitable, Callable
from typing import Any

from ..core.clock import Clock
from ..core.messages import Usage
from .base import GenerationRecord
from .json_values import as_count, as_object, as_text
from .usage import read_usd

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0

Fetch = Callable[[str], Awaitable[dict[str, Any] | None]]
"""The body of the record with this id; None when there is none yet. Raises `ModelUnavailable`."""


async def find_generation(
    generation_id: str, fetch: Fetch, *, clock: Clock, within_s: float
) -> GenerationRecord | None:
    """Look again and again: a record is written some seconds after its answer ended. Raises what `fetch` raises.

    None when there was none within that time, or one that names no cost.
    """
    end = clock.monotonic() + within_s
    wait_s = _FIRST_WAIT_S
    while True:
        body = await fetch(generation_id)
        record = read_generation(as_object((body or {}).get("data")))
        left_s = end - clock.monotonic()
        if record is not None or left_s <= 0:
            return record
        await clock.sleep(min(wait_s, left_s))
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def read_generation(data: dict[str, Any]) -> GenerationRecord | None:
    """A record from its `data`. The provider's own count of tokens is taken before the gateway's."""
    cost_usd = read_usd(data.get("total_cost"))
    if cost_usd is None or not as_text(data.get("id")):
        return None

    def tokens(native: str, counted: str) -> int:
        return as_count(data.get(native)) or as_count(data.get(counted))

    return GenerationRecord(
        as_text(data.get("id")),
        cost_usd,
        Usage(
            prompt_tokens=tokens("native_tokens_prompt", "tokens_prompt"),
            completion_tokens=tokens("native_tokens_completion", "tokens_completion"),
            cached_tokens=as_count(data.get("native_tokens_cached")),
            reasoning_tokens=as_count(data.get("native_tokens_reasoning")),
        ),
        model=as_text(data.get("model")) or None,
        provider=as_text(data.get("provider_name")) or None,
        cancelled=data.get("cancelled") is True,
        finish_reason=as_text(data.get("finish_reason")) or None,
    )
