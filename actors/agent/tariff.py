"""What tools, sandboxes and embeddings cost, as the operator says. Models have prices of their own (`prices.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ..core.events import PaidKind
from ..core.money import MICROS_PER_USD, to_micros
from ..core.settings import Settings


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices in micro-dollars; everything is free by default."""

    sandbox_second: Decimal = Decimal(0)
    by_cpu: bool = False
    """A sandbox's seconds are those of the processor, of which it may take `cpus` at once."""
    cpus: float = 1.0
    command_s: float = 300.0
    """Code in a sandbox is stopped after so long."""
    tools: Mapping[str, int] = field(default_factory=dict[str, int])
    embedding: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Tariff":
        return cls(
            settings.budget_sandbox_second_micros,
            settings.budget_sandbox_seconds == "cpu",
            settings.sandbox_cpus,
            settings.sandbox_command_s,
            settings.budget_tool_micros,
            settings.budget_embedding_micros,
        )

    def cost(self, kind: PaidKind, name: str, seconds: float) -> Decimal:
        """US dollars for a call that took so long; only in a sandbox that matters."""
        match kind:
            case "sandbox":
                micros = self.tools.get(name, 0) + self.sandbox_second * Decimal(str(seconds))
            case "embedding":
                micros = Decimal(self.embedding)
            case _:
                micros = Decimal(self.tools.get(name, 0))
        return Decimal(micros) / MICROS_PER_USD

    def at_most(self, kind: PaidKind, name: str, timeout_s: float) -> int:
        """Micro-dollars for a call that takes all of its time."""
        return to_micros(self.cost(kind, name, self.longest(timeout_s)))

    def longest(self, timeout_s: float) -> float:
        """Seconds that code in a sandbox can be charged for."""
        wall_s = max(0.0, min(timeout_s, self.command_s))
        return wall_s * max(1.0, self.cpus) if self.by_cpu else wall_s
