"""What is expensive: the one table of what a paused budget refuses. Everything below its bounds goes on.

Whoever begins one of these operations asks here, and tells `reserve` that it is dear. Of requests in a batch and of
embeddings in bulk nothing exists yet that would ask.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum


class Operation(StrEnum):
    """What is measured, and in what."""

    PROMPT = "model_prompt"
    """A model, by US dollars for a million prompt tokens."""
    COMPLETION = "model_completion"
    """A model, by US dollars for a million completion tokens."""
    RUN = "sandbox_run"
    """A program in a sandbox, by the seconds that it may run."""
    EMBEDDING = "bulk_embedding"
    """Texts that are embedded at once."""
    BATCH = "batch"
    """Requests of one batch."""


BOUNDS: Mapping[Operation, Decimal] = {
    Operation.PROMPT: Decimal(5),
    Operation.COMPLETION: Decimal(15),
    Operation.RUN: Decimal(60),
    Operation.EMBEDDING: Decimal(100),
    Operation.BATCH: Decimal(0),
}
"""What is above is expensive."""


class Expensive:
    """The table with an operator's bounds in it."""

    def __init__(self, bounds: Mapping[Operation, Decimal] | None = None) -> None:
        self.bounds = {**BOUNDS, **(bounds or {})}

    def refuses(self, operation: Operation, size: Decimal | float) -> bool:
        """An operation of that size is expensive."""
        return size > self.bounds[operation]

    def refuses_model(self, prompt_usd: Decimal, completion_usd: Decimal) -> bool:
        """A model at these prices per token is expensive."""
        million = Decimal(1_000_000)
        return self.refuses(Operation.PROMPT, prompt_usd * million) or self.refuses(
            Operation.COMPLETION, completion_usd * million
        )
