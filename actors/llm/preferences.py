"""What an operator wishes of every call: how long the model thinks, and who may see the prompt."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..core.errors import InvalidInput

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


@dataclass(frozen=True, slots=True)
class Preferences:
    """`effort` is for any server, None leaves it to the model. The others are for a gateway that routes to providers.

    `only` these providers may answer, or any when it is empty; those of `order` are asked first.
    """

    effort: Effort | None = None
    only: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    no_collection: bool = False
    """Providers that may keep prompts, or train on them, are left out."""
    no_retention: bool = False
    """Only providers that keep nothing at all are asked."""

    def check(self, *, gateway: bool) -> None:
        """Raises `InvalidInput` when a server that is no gateway would not hear what is wished of it."""
        if not gateway and (self.only or self.order or self.no_collection or self.no_retention):
            raise InvalidInput(
                "only a gateway can choose among providers: take GREENROOM_LLM_PROVIDERS, "
                "GREENROOM_LLM_PROVIDER_ORDER, GREENROOM_LLM_NO_COLLECTION and GREENROOM_LLM_NO_RETENTION away, "
                "or, when the server speaks OpenRouter's dialect, set GREENROOM_LLM_DIALECT=openrouter"
            )

    def members(self, *, gateway: bool) -> dict[str, Any]:
        """Of a request's body."""
        if self.effort is None:
            return {}
        return {"reasoning": {"effort": self.effort}} if gateway else {"reasoning_effort": self.effort}

    def provider(self) -> dict[str, Any]:
        """What a gateway's `provider` says of them."""
        said: dict[str, Any] = {"only": list(self.only), "order": list(self.order)}
        said |= {"data_collection": "deny" if self.no_collection else None, "zdr": self.no_retention}
        return {name: value for name, value in said.items() if value}
