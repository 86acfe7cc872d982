"""What the scripted model server would have charged: one sum, and a record of each answer as `/generation` shows it."""

import itertools
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ..core.clock import Clock, SystemClock
from .reply import Reply

PROMPT_USD = Decimal("0.000001")
COMPLETION_USD = Decimal("0.000002")

_MAX_RECORDS = 10_000


@dataclass(slots=True)
class Generation:
    """One answer on the bill. `misses` look-ups are answered by 404 before it can be found."""

    id: str
    model: str
    reply: Reply
    streamed: bool
    prompt_tokens: int
    completion_tokens: int
    misses: int
    day: str
    """Of the bill that it is on, UTC."""
    cancelled: bool = False
    running: bool = False
    """It is still being sent: there is no record of it yet."""

    @property
    def cost_usd(self) -> Decimal | None:
        if self.reply.cost != "auto":
            return self.reply.cost
        return self.prompt_tokens * PROMPT_USD + self.completion_tokens * COMPLETION_USD

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cost": self.cost_usd,
        }

    def as_json(self) -> dict[str, Any]:
        cost = self.cost_usd or Decimal(0)
        return {
            "id": self.id,
            "model": self.model,
            "provider_name": self.reply.provider,
            "streamed": self.streamed,
            "cancelled": self.cancelled,
            "finish_reason": None if self.cancelled else self.reply.finish,
            "tokens_prompt": self.prompt_tokens,
            "tokens_completion": self.completion_tokens,
            "native_tokens_prompt": self.prompt_tokens,
            "native_tokens_completion": self.completion_tokens,
            "native_tokens_reasoning": 0,
            "native_tokens_cached": 0,
            "total_cost": cost,
            "usage": cost,
            "is_byok": False,
        }


@dataclass(slots=True)
class ServerBill:
    """What the server was asked and what it would have charged. Prompt tokens are a quarter of the bytes."""

    clock: Clock = field(default_factory=SystemClock)
    calls: int = 0
    answered: int = 0
    disconnects: int = 0
    faults: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: Decimal = field(default_factory=Decimal)
    generations: dict[str, Generation] = field(default_factory=dict[str, Generation])
    """The newest ones by id."""
    days: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """The cost of each day, UTC, as 2026-11-30."""

    def charge(
        self, id: str, model: str, reply: Reply, *, streamed: bool, prompt_bytes: int, tokens: int
    ) -> Generation:
        """Put an answer on the bill."""
        prompt_tokens, day = -(-prompt_bytes // 4), self._today()
        misses = reply.lookup_misses
        made = Generation(id, model, reply, streamed, prompt_tokens, tokens, misses, day, running=streamed)
        self.generations[id] = made
        for old in list(itertools.islice(self.generations, max(0, len(self.generations) - _MAX_RECORDS))):
            del self.generations[old]
        self._add(made, 1)
        return made

    def cancel(self, made: Generation, *, sent_tokens: int) -> None:
        """Its reader went away. It is billed for what was sent, or in full when its provider does not stop."""
        self.disconnects += 1
        self._add(made, -1)
        made.cancelled = True
        if made.reply.stops_on_abort:
            made.completion_tokens = min(sent_tokens, made.completion_tokens)
        self._add(made, 1)

    def look_up(self, id: str) -> Generation | None:
        """What `/generation` finds."""
        made = self.generations.get(id)
        if made is None or made.running:
            return None
        made.misses -= 1
        return made if made.misses < 0 else None

    def key_as_json(self) -> dict[str, Any]:
        """The meter of the credential, as `/key` shows it."""
        today = self._today()
        month = sum((cost for day, cost in self.days.items() if day[:7] == today[:7]), Decimal(0))
        return {
            "label": "scripted",
            "limit": None,
            "limit_remaining": None,
            "usage": self.cost_usd,
            "usage_daily": self.days.get(today, Decimal(0)),
            "usage_monthly": month,
        }

    def _today(self) -> str:
        return self.clock.now().date().isoformat()

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "answered": self.answered,
            "disconnects": self.disconnects,
            "faults": self.faults,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": str(self.cost_usd),
        }

    def _add(self, made: Generation, sign: int) -> None:
        self.prompt_tokens += sign * made.prompt_tokens
        self.completion_tokens += sign * made.completion_tokens
        cost = sign * (made.cost_usd or Decimal(0))
        self.cost_usd += cost
        self.days[made.day] = self.days.get(made.day, Decimal(0)) + cost
