"""What Greenroom asks of a language model, and what it gets back.

The contract of `LLM.stream`:

* It yields any number of `TextDelta` and `ReasoningText`, then exactly one `Answer`, and ends. Any number of
  `Retrying`, each followed by `Resending`, may come before all of these, and one `Began` in each attempt.
  One that holds a call back yields `Queued` before that, and `Sending` after: in between nothing was sent.
* It raises `ModelUnavailable` (no answer, or it broke off), `ModelProtocolError` (what came is not an
  answer), `ModelRefused` (the server said no; trying again is useless) or `UnknownModel`. The error's
  `details` hold `partial` (str, the text so far) when text was already yielded, `generation_id`
  when it is known, and `free` (true) when the last attempt was surely not billed. `not_sent` (true): a
  breaker or a limit refused it, `retry_after_s` says for how long.
* An attempt is one HTTP request. An implementation may try again by itself only while it has yielded
  no text; it yields `Retrying` when one has failed and `Resending` before it sends the next, so that each
  has its own row in the ledger and none is open in between. Once text was yielded it never starts over.
* Closing the iterator (`aclose`, or cancellation of the task) ends the request at once.
* It never runs a tool and never yields a tool call that is not complete and valid JSON.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

from ..core.events import CostSource
from ..core.messages import AssistantMessage, Message, ToolSpec, Usage

PriceSource: TypeAlias = Literal["price_list", "fallback"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One question to a model. `session_ref` and `user_ref` are pseudonyms that a gateway may see."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_completion_tokens: int = 4096
    session_ref: str | None = None
    user_ref: str | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningText:
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer. `cost_usd` is None when nobody knows it, which is not the same as 0."""

    message: AssistantMessage
    model: str
    finish_reason: str
    native_finish_reason: str | None = None
    provider: str | None = None
    generation_id: str | None = None
    reasoning: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    cost_source: CostSource = "unknown"


@dataclass(frozen=True, slots=True)
class Retrying:
    """An attempt failed, and after a wait there will be another. `free`: the failed one was surely not billed."""

    outcome: str
    free: bool = False
    generation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Resending:
    """The wait is over: the next attempt is about to be sent."""


@dataclass(frozen=True, slots=True)
class Queued:
    """The call may have to wait for others. What is broken off now was never sent."""


@dataclass(frozen=True, slots=True)
class Sending:
    """The wait for others is over."""


@dataclass(frozen=True, slots=True)
class Began:
    """The attempt has a name at the server, by which its cost can be looked up when it is broken off."""

    generation_id: str


StreamItem: TypeAlias = TextDelta | ReasoningText | Answer | Retrying | Resending | Queued | Sending | Began


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """What a gateway says afterwards of one answer."""

    id: str
    cost_usd: Decimal
    usage: Usage
    model: str | None = None
    provider: str | None = None
    cancelled: bool = False
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What a server says that a credential has spent in this day and this month, UTC; None where it does not say."""

    day_usd: Decimal | None = None
    month_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be asked for. Prices are US dollars per token; None is unknown, not free."""

    id: str
    name: str
    context_length: int | None = None
    prompt_usd: Decimal | None = None
    completion_usd: Decimal | None = None
    price_source: PriceSource = "price_list"
    """Where a price that is known comes from: the server's list, or the table that Greenroom brings."""
    price_varies: bool = False
    """The server says that it depends: the model is a router to others."""
    listed_at: datetime | None = None
    """When the list was read."""
    cache_read_usd: Decimal | None = None
    """Of a prompt token that is read from the provider's cache."""


class LLM(Protocol):
    """A source of answers. One instance serves a whole process, many streams at once."""

    @property
    def default_model(self) -> str:
        """The model used when a session names none."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[StreamItem]:
        """Ask once; see the module's contract. Cancel-safe. Deadlines are the implementation's own."""
        ...

    async def models(self) -> tuple[ModelInfo, ...]:
        """What can be asked for; cached. Raises `ModelUnavailable`."""
        ...

    async def aclose(self) -> None:
        """Give connections back."""
        ...


class Generations(Protocol):
    """Answers can be looked up afterwards. An `LLM` behind a gateway is one of these too."""

    async def generation(self, generation_id: str, *, within_s: float = 30.0) -> GenerationRecord | None:
        """The record of an answer, waited for as long as that. None when there is none. Raises `ModelUnavailable`."""
        ...


class KeyMeter(Protocol):
    """The server meters the credential. An `LLM` behind a gateway is one of these too."""

    async def key_usage(self) -> KeyUsage | None:
        """None where the server keeps no meter. Raises `ModelUnavailable`."""
        ...
