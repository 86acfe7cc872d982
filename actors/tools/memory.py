"""The tools `remember` and `recall`: facts of a user that outlive the session."""

import hashlib
from typing import Annotated

from pydantic import Field

from ..core.clock import Clock, rfc3339
from ..memory.base import Memory
from .base import Tool, ToolContext, ToolResult, tool

FACT_MAX_CHARS = 4_000


def memory_tools(clock: Clock) -> tuple[Tool, ...]:
    """`clock` says when a fact was remembered."""

    async def remember(
        context: ToolContext,
        text: Annotated[
            str,
            "One fact as a whole sentence that is understood alone, e.g. `Ana's dog is called Rex.`",
            Field(min_length=1, max_length=FACT_MAX_CHARS),
        ],
    ) -> ToolResult:
        """Keep a fact about the user for later sessions. Use it for what will matter again: names, preferences,
        decisions, plans. Do not keep passwords or other secrets, nor what only this conversation needs."""
        memory_id = _memory_id(context, text)
        await context.memories.remember(
            Memory(memory_id, context.user_id, text, context.session_id, context.turn_id, clock.now())
        )
        return ToolResult("Remembered.", data={"memory_id": memory_id})

    async def recall(
        context: ToolContext,
        query: Annotated[str, "What to look for, in any language.", Field(min_length=1)],
        # The schema takes a default from `Field`; the other one is for type checkers.
        limit: Annotated[int, "How many facts to get.", Field(ge=1, le=20)] = 5,
    ) -> ToolResult:
        """Search the facts that were kept about this user, in this and in earlier sessions, by meaning. The nearest
        come first; they come even when nothing fits well, so judge whether they answer. Other users' facts are
        never found."""
        found = await context.memories.recall(context.user_id, query, limit=limit)
        lines = [f"- {item.memory.created_at:%Y-%m-%d}: {item.memory.text}" for item in found]
        return ToolResult(
            "\n".join(lines) or "Nothing was kept about this user yet.",
            data={
                "memories": [
                    {
                        "id": item.memory.id,
                        "score": round(item.score, 4),
                        "session_id": item.memory.session_id,
                        "created_at": rfc3339(item.memory.created_at),
                    }
                    for item in found
                ]
            },
        )

    return tool(remember, meter="embedding"), tool(recall, meter="embedding")


def _memory_id(context: ToolContext, text: str) -> str:
    """The same call again gives the same id, so it stores nothing twice. The text belongs to it, because some
    model servers number the calls of every answer from 0, and then ids come again within a turn."""
    parts = (context.turn_id, context.tool_call_id, text)
    return "mem_" + hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
