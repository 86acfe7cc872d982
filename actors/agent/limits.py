"""When a turn has to stop although the model would go on."""

from dataclasses import dataclass

from ..core.events import StopReason
from ..core.settings import Settings
from .turn_state import TurnState


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """Ceilings of one turn. They are checked before each model call, so a call may pass them by what it uses."""

    max_steps: int
    max_s: float
    max_tokens: int
    max_cost_micros: int

    @classmethod
    def of(cls, settings: Settings) -> "TurnLimits":
        return cls(
            settings.turn_max_steps, settings.turn_max_s, settings.turn_max_tokens, settings.turn_max_cost_micros
        )

    def reached(self, turn: TurnState) -> StopReason | None:
        """The limit that forbids another model call, or None. Wall time is watched by a deadline, not here."""
        if turn.steps >= self.max_steps:
            return "max_steps"
        if turn.spent.usage.total_tokens >= self.max_tokens:
            return "max_tokens"
        if self.max_cost_micros and turn.spent.cost_micros >= self.max_cost_micros:
            return "max_cost"
        return None
