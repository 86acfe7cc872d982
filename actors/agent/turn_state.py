"""What a turn is while it has not ended: its calls, what people were asked for them, and how far it got."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ..core.events import Decision, OnBusy, Spent, ToolCompleted, TurnCancelled, TurnCompleted, TurnFailed
from ..core.messages import ToolCall
from ..ledger.payer import NOBODY, Payer


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """A person is asked; `decision` is None until there is an answer, or the policy's when none came."""

    id: str
    expires_at: datetime
    on_expiry: Decision
    decision: Decision | None = None
    reason: str | None = None


@dataclass(slots=True)
class ToolState:
    """A call of the running turn. `result` is None until it has ended."""

    call: ToolCall
    approval: ApprovalState | None = None
    started_at: datetime | None = None
    result: ToolCompleted | None = None

    @property
    def started(self) -> bool:
        return self.started_at is not None

    @property
    def undecided(self) -> bool:
        """It waits for a person."""
        return self.result is None and self.approval is not None and self.approval.decision is None


@dataclass(slots=True)
class TurnState:
    """A turn that has not ended. `outcome` is its terminal event once there is one."""

    id: str
    message_id: str
    content: str
    model: str
    on_busy: OnBusy = "enqueue"
    running: bool = False
    waiting: Literal["approval", "paused"] | None = None
    """A turn that was begun and has left the processor; nothing of it is under way anywhere."""
    steps: int = 0
    recoveries: int = 0
    """Take-overs since something of the turn was last finished."""
    answer: str = ""
    finish_reason: str | None = None
    spent: Spent = field(default_factory=Spent)
    payer: Payer = NOBODY
    tools: dict[str, ToolState] = field(default_factory=dict[str, ToolState])
    replaced_by: str | None = None
    """The model that is asked in place of the turn's own, because that is expensive and the budget is paused."""
    outcome: TurnCompleted | TurnFailed | TurnCancelled | None = None

    def open_calls(self) -> list[ToolState]:
        """Calls that the model waits for, in the order in which it asked."""
        return [tool for tool in self.tools.values() if tool.result is None]

    def undecided(self) -> list[ToolState]:
        """Calls for which a person was asked who has not answered."""
        return [tool for tool in self.tools.values() if tool.undecided]

    @property
    def blocked(self) -> bool:
        """It has left the processor, and the call that comes next needs a person's word."""
        return self.waiting is not None and next((tool.undecided for tool in self.open_calls()), False)
