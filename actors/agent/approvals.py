"""Tool calls that a person must approve: asking, and what becomes of those that nobody answers."""

from dataclasses import dataclass
from datetime import timedelta

from ..core.clock import Clock
from ..core.events import ApprovalExpired, ApprovalRequested, Decision, ToolCompleted
from ..core.ids import NewId
from ..core.settings import Settings
from ..tools.toolbox import Toolbox
from .log import SessionLog
from .turn_state import ToolState, TurnState


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """Which tools need a person everywhere, how long one is waited for, and what is decided then."""

    tools: frozenset[str] = frozenset()
    expires_s: float = 86_400.0
    on_expiry: Decision = "deny"

    @classmethod
    def of(cls, settings: Settings) -> "ApprovalPolicy":
        return cls(frozenset(settings.approval_tools), settings.approval_expires_s, settings.approval_on_expiry)


class Approvals:
    """Asks on behalf of turns. Holds no state between calls."""

    def __init__(self, toolbox: Toolbox, policy: ApprovalPolicy, *, clock: Clock, new_id: NewId) -> None:
        self._toolbox = toolbox
        self._policy = policy
        self._clock = clock
        self._new_id = new_id

    def ask(self, log: SessionLog, turn: TurnState) -> None:
        """Stage a request for every open call that needs one and has none."""
        for tool in turn.open_calls():
            if tool.approval is None and not tool.started and self._is_needed(log, tool.call.name):
                expires_at = self._clock.now() + timedelta(seconds=self._policy.expires_s)
                log.stage(
                    ApprovalRequested(
                        self._new_id("appr"),
                        tool.call.id,
                        tool.call.name,
                        tool.call.arguments,
                        expires_at,
                        self._policy.on_expiry,
                    ),
                    turn.id,
                )

    def _is_needed(self, log: SessionLog, name: str) -> bool:
        return name in self._policy.tools or name in log.state.approvals or self._toolbox.needs_approval(name)


def is_due(tool: ToolState, clock: Clock) -> bool:
    """A person was asked, and the time to answer is over."""
    return tool.undecided and tool.approval is not None and tool.approval.expires_at <= clock.now()


def expire_due(log: SessionLog, turn: TurnState, clock: Clock) -> None:
    """Stage the policy's decision where nobody decided in time."""
    for tool in turn.undecided():
        if tool.approval is not None and is_due(tool, clock):
            log.stage(ApprovalExpired(tool.approval.id, tool.call.id, tool.approval.on_expiry), turn.id)


def withdraw_requests(log: SessionLog, turn: TurnState) -> None:
    """The turn ends: nobody needs to decide any more."""
    for tool in turn.undecided():
        assert tool.approval is not None
        log.stage(ApprovalExpired(tool.approval.id, tool.call.id, "deny", cancelled=True), turn.id)


def refuse(log: SessionLog, turn: TurnState, tool: ToolState) -> None:
    """Tell the model that a person said no. The tool is not run."""
    assert tool.approval is not None
    reason = f": {tool.approval.reason}" if tool.approval.reason else ""
    said = f"Not run: a person did not allow it{reason}."
    log.stage(ToolCompleted(tool.call.id, tool.call.name, said, error="denied"), turn.id)
