"""Tokens and money as a model server reports them."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ..core.messages import Usage
from .json_values import as_count, as_object

_MOST_USD = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Bill:
    """What the server said that the answer used. `cost_usd` is None when it named no price; 0 is a price."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None


def read_bill(usage: dict[str, Any]) -> Bill:
    """The `usage` member of an answer. Members that are missing or odd count as 0, an odd price as none."""
    prompt = as_object(usage.get("prompt_tokens_details"))
    completion = as_object(usage.get("completion_tokens_details"))
    return Bill(
        Usage(
            prompt_tokens=as_count(usage.get("prompt_tokens")),
            completion_tokens=as_count(usage.get("completion_tokens")),
            cached_tokens=as_count(prompt.get("cached_tokens")),
            reasoning_tokens=as_count(completion.get("reasoning_tokens")),
        ),
        read_usd(usage.get("cost")),
    )


def read_usd(value: Any) -> Decimal | None:
    """An amount of dollars, given as a number or as text. None when it is negative, absurd or none at all."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        usd = Decimal(value)
    except ArithmeticError:
        return None
    return usd if usd.is_finite() and 0 <= usd <= _MOST_USD else None
