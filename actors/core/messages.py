"""The transcript: what was said, in the order in which a model gets to read it."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to run a tool. `arguments` is a JSON object as text, exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class SystemMessage:
    content: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    content: str


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What a model answered. `reasoning_details` go back unread and unchanged, to the same `model` only."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning_details: tuple[dict[str, Any], ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """What a tool answered to the call of that id."""

    tool_call_id: str
    content: str


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more model calls. `prompt_tokens` includes `cached_tokens`."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def of(cls, counts: Any) -> "Usage":
        """From what has members of these names, as rows have. None is 0; sums are decimals on some databases."""
        return cls(*(int(getattr(counts, name) or 0) for name in TOKENS))

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens - other.prompt_tokens,
            self.completion_tokens - other.completion_tokens,
            self.cached_tokens - other.cached_tokens,
            self.reasoning_tokens - other.reasoning_tokens,
        )

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


TOKENS = tuple(one.name for one in fields(Usage))
"""The counts of a `Usage` by name, as columns have them too."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it. `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
