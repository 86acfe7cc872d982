"""How the newest turns of a resident session ended, and those who wait to be told."""

import asyncio
from dataclasses import dataclass, field

from ..core import telemetry
from ..core.errors import GreenroomError
from ..core.events import TurnCancelled, TurnFailed
from .sessions import ToolOutcome, TurnResult
from .turn_state import TurnState

KEPT = 8
"""Results of the newest ended turns, for callers that come back for one that has just ended."""


@dataclass(slots=True)
class Results:
    """Belongs to one event loop."""

    _ended: dict[str, TurnResult] = field(default_factory=dict[str, TurnResult])
    _ending: set[str] = field(default_factory=set[str])
    _waiters: dict[str, asyncio.Future[TurnResult | None]] = field(
        default_factory=dict[str, "asyncio.Future[TurnResult | None]"]
    )

    def get(self, turn_id: str) -> TurnResult | None:
        """The result of a turn that ended here of late."""
        return self._ended.get(turn_id)

    def expect(self, turn: TurnState) -> None:
        """The turn's end is staged; `put` follows when it is durable."""
        self._ending.add(turn.id)

    def expects(self, turn_id: str) -> bool:
        return turn_id in self._ending

    def put(self, result: TurnResult) -> None:
        """The turn's end is durable: tell those who wait."""
        self._ending.discard(result.turn_id)
        self._ended[result.turn_id] = result
        telemetry.TURNS.labels(result.status, result.stop_reason).inc()
        while len(self._ended) > KEPT:
            del self._ended[next(iter(self._ended))]
        if waiter := self._waiters.pop(result.turn_id, None):
            waiter.set_result(result)

    async def wait(self, turn_id: str, wait_s: float) -> TurnResult | None:
        """The result of a turn that is under way; None when it takes longer, and at `release`.

        Raises the reason of `fail`.
        """
        waiter = self._waiters.get(turn_id)
        if waiter is None:
            waiter = self._waiters[turn_id] = asyncio.get_running_loop().create_future()
        done_now, _ = await asyncio.wait([waiter], timeout=wait_s)
        return waiter.result() if done_now else None

    def release(self) -> None:
        """Nothing goes on here until a person says so: those who wait for a turn need not, but for its end alone."""
        for turn_id in self._waiters.keys() - self._ending:
            self._waiters.pop(turn_id).set_result(None)

    def fail(self, reason: GreenroomError) -> None:
        """Nothing will be known here any more."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.set_exception(reason)
            waiter.exception()  # retrieved: whoever waited may have gone


def result_of(session_id: str, turn: TurnState) -> TurnResult:
    """The result of a turn that has its terminal event."""
    outcome = turn.outcome
    assert outcome is not None
    stop_reason = "error" if isinstance(outcome, TurnFailed) else "cancelled"
    if not isinstance(outcome, TurnFailed | TurnCancelled):
        stop_reason = outcome.stop_reason
    return TurnResult(
        session_id,
        turn.id,
        status=outcome.type.removeprefix("turn."),
        stop_reason=stop_reason,
        message=turn.answer,
        tools=tuple(
            ToolOutcome(tool.call, tool.result.content, tool.result.error, tool.result.duration_ms)
            for tool in turn.tools.values()
            if tool.result is not None
        ),
        steps=turn.steps,
        spent=outcome.spent,
        error=outcome.error if isinstance(outcome, TurnFailed) else None,
        stopped=outcome.stopped if isinstance(outcome, TurnCancelled) else (),
    )
