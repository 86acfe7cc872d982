"""What a session *is*: a fold over its events, and nothing else.

`SessionState.apply` is the only way in which it changes, live and at activation alike, so what is
replayed from the journal is what was there before. No I/O, no clock, no ids.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from ..core.events import (
    Event,
    MessageAccepted,
    MessageCompleted,
    SessionCreated,
    Spent,
    ToolCompleted,
    ToolOutcomeUnknown,
    ToolRequested,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnRecovering,
    TurnStarted,
    UsageUpdated,
)
from ..core.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage

OUTCOME_UNKNOWN = (
    "The process that ran this tool died while the tool was running. It may have finished, in part or not at all. "
    "It was not run again. Check its effects before you repeat it."
)

REMEMBERED_MESSAGES = 256
"""How many of the newest messages are known by id, so that one that is sent again is not run again."""


@dataclass(slots=True)
class ToolState:
    """A call of the running turn. `result` is None until it has ended."""

    call: ToolCall
    started: bool = False
    result: ToolCompleted | None = None


@dataclass(slots=True)
class TurnState:
    """A turn that has not ended. `outcome` is its terminal event once there is one."""

    id: str
    message_id: str
    content: str
    model: str
    running: bool = False
    steps: int = 0
    recoveries: int = 0
    answer: str = ""
    finish_reason: str | None = None
    spent: Spent = field(default_factory=Spent)
    tools: dict[str, ToolState] = field(default_factory=dict[str, ToolState])
    outcome: TurnCompleted | TurnFailed | TurnCancelled | None = None

    def open_calls(self) -> list[ToolState]:
        """Calls that the model waits for, in the order in which it asked."""
        return [tool for tool in self.tools.values() if tool.result is None]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message's turn, and the number of its `message.accepted`."""

    turn_id: str
    seq: int


@dataclass(slots=True)
class SessionState:
    session_id: str
    user_id: str = ""
    model: str = ""
    system: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    title: str | None = None
    last_seq: int = 0
    transcript: list[Message] = field(default_factory=list[Message])
    turns: "OrderedDict[str, TurnState]" = field(default_factory=OrderedDict[str, TurnState])
    """Turns that have not ended, in the order in which they will run."""
    accepted: "OrderedDict[str, Accepted]" = field(default_factory=OrderedDict[str, "Accepted"])
    """What became of the newest messages, by message id."""
    spent: Spent = field(default_factory=Spent)

    @property
    def running(self) -> TurnState | None:
        first = next(iter(self.turns.values()), None)
        return first if first is not None and first.running else None

    def apply(self, event: Event) -> None:
        """Take one event in. Events come in the order of their numbers, without gaps."""
        if event.seq != self.last_seq + 1:
            raise ValueError(f"event {event.seq} after {self.last_seq} in {self.session_id}")
        self.last_seq = event.seq
        match event.body:
            case SessionCreated() as body:
                self.user_id, self.model, self.system = body.user_id, body.model, body.system
                self.metadata = body.metadata
            case MessageAccepted() as body:
                self._accept(event, body)
            case _:
                if event.turn_id is not None:
                    self._apply_to_turn(self.turns[event.turn_id], event)

    def _accept(self, event: Event, body: MessageAccepted) -> None:
        assert event.turn_id is not None
        self.turns[event.turn_id] = TurnState(event.turn_id, body.message_id, body.content, body.model or self.model)
        self.accepted[body.message_id] = Accepted(event.turn_id, event.seq)
        while len(self.accepted) > REMEMBERED_MESSAGES:
            self.accepted.popitem(last=False)
        if self.title is None:
            self.title = title_of(body.content)

    def _apply_to_turn(self, turn: TurnState, event: Event) -> None:
        match event.body:
            case TurnStarted():
                turn.running = True
                # A queued message joins the transcript only now: it may not stand amid another turn's answer.
                self.transcript.append(UserMessage(turn.content))
            case TurnRecovering() as body:
                turn.recoveries = body.recoveries
            case MessageCompleted() as body:
                turn.steps += 1
                turn.answer, turn.finish_reason = body.content, body.finish_reason
                self._say(body, turn.model)
            case UsageUpdated() as body:
                turn.spent += body.spent
                self.spent = body.session
            case TurnCompleted() | TurnFailed() | TurnCancelled() as body:
                turn.outcome = body
                del self.turns[turn.id]
            case _:
                self._apply_to_tool(turn, event)

    def _apply_to_tool(self, turn: TurnState, event: Event) -> None:
        match event.body:
            case ToolRequested() as body:
                turn.tools[body.call.id] = ToolState(body.call)
            case ToolStarted() as body:
                turn.tools[body.tool_call_id].started = True
            case ToolCompleted() as body:
                turn.tools[body.tool_call_id].result = body
                self.transcript.append(ToolMessage(body.tool_call_id, body.content))
            case ToolOutcomeUnknown() as body:
                turn.tools[body.tool_call_id].result = ToolCompleted(
                    body.tool_call_id, body.name, OUTCOME_UNKNOWN, error="outcome_unknown"
                )
                self.transcript.append(ToolMessage(body.tool_call_id, OUTCOME_UNKNOWN))
            case _:
                pass

    def _say(self, body: MessageCompleted, model: str) -> None:
        # A blank answer is no message: providers refuse a transcript that holds one.
        content = body.content if body.content.strip() else ""
        if content or body.tool_calls:
            self.transcript.append(AssistantMessage(content, body.tool_calls, body.reasoning_details, model))


def title_of(content: str, *, length: int = 80) -> str:
    """The first line of a message, cut at a word."""
    line = " ".join(content.split())
    if len(line) <= length:
        return line
    return line[: length - 1].rsplit(" ", 1)[0] + "…"
