"""The agent loop: ask the model, run the tools it asked for, until it stops or a limit says stop.

What comes next is read off the turn's state, never off the loop's own position. So a turn whose process
died goes on anywhere from what the journal holds, by the same code.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ..core.clock import Clock
from ..core.errors import AccountSuspended, BudgetExceeded, ConflictError, GreenroomError, StoreUnavailable
from ..core.events import Failure, StopReason, TurnCancelled, TurnCompleted, TurnFailed, TurnRecovering, TurnWaiting
from ..core.text import mended
from ..ledger.book import AttemptClosed
from ..ledger.payer import paying
from .limits import TurnLimits
from .log import SessionLog
from .model_call import ModelCall, account
from .parking import Parked
from .tool_calls import ToolCalls
from .turn_state import TurnState

_STOPS: dict[str, StopReason] = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}

CLOSING_S = 5.0
"""Time for writing how a cancelled turn ended."""


class TurnLoop:
    """Runs turns to their terminal event. One instance serves every session of a process."""

    def __init__(
        self, model: ModelCall, tools: ToolCalls, *, limits: TurnLimits, max_recoveries: int, clock: Clock
    ) -> None:
        self._model = model
        self._tools = tools
        self._limits = limits
        self._max_recoveries = max_recoveries
        self._clock = clock
        self._logger = structlog.get_logger("greenroom.loop")

    async def run(self, log: SessionLog, turn: TurnState, between_steps: Callable[[], Awaitable[None]]) -> None:
        """Bring a started turn to its terminal event, or to `turn.waiting`; either is durable when this returns.

        `between_steps` is awaited before each model call: what people said meanwhile comes in there. Raises
        what the journal raises (`Fenced`, `StoreUnavailable`): then nothing more can be said of the turn here.
        Cancelling the task cancels the turn; `leave` is for stopping without that.
        """
        try:
            async with asyncio.timeout(self._limits.max_s):
                with paying(turn.payer):
                    await self._steps(log, turn, between_steps)
        except Parked as parked:
            log.stage(TurnWaiting(parked.reason), turn.id)
        except TimeoutError:
            self._tools.close_open(log, turn, reason="the turn ran out of time")
            log.stage(TurnCompleted("timeout", turn.steps, turn.spent), turn.id)
        except (ConflictError, StoreUnavailable):
            raise
        except asyncio.CancelledError:
            await self._cancelled(log, turn)
            return
        except GreenroomError as error:
            self._failed(log, turn, _failure(error))
        except Exception:  # the loop's border: a defect fails the turn, not the session; the log has its insides
            self._logger.exception("turn crashed", session_id=log.state.session_id, turn_id=turn.id)
            self._failed(log, turn, Failure("internal", "an internal error; the server's log says more"))
        await log.flush()

    async def admit(self, log: SessionLog, model: str) -> None:
        """Before a message is taken: raises what its first model call would be refused for, if that is known."""
        await self._model.admit(log.state.user_id, log.state.session_id, model)

    def recover(self, log: SessionLog, turn: TurnState, lost_attempts: tuple[str, ...]) -> bool:
        """Stage the take-over of a turn that another process began; False when it was taken over too often.

        Too often is: without anything of it finished in between. `lost_attempts` are the model calls that were
        under way: nobody knows what they cost.
        """
        recoveries = turn.recoveries + 1
        log.stage(TurnRecovering(recoveries), turn.id)
        self._lose(log, turn, lost_attempts)
        if recoveries <= self._max_recoveries:
            return True
        message = f"the turn was taken over {recoveries} times and got no further"
        self._failed(log, turn, Failure("recovery_limit", message))
        return False

    def abandon(self, log: SessionLog, turn: TurnState, lost_attempts: tuple[str, ...]) -> None:
        """Stage that a turn was cancelled of which nothing is under way in this process."""
        self._lose(log, turn, lost_attempts)
        self._tools.close_open(log, turn, reason="the turn was cancelled")
        log.stage(TurnCancelled((), turn.steps, turn.spent), turn.id)

    def _lose(self, log: SessionLog, turn: TurnState, lost_attempts: tuple[str, ...]) -> None:
        for attempt_id in lost_attempts:
            account(log, turn, AttemptClosed(attempt_id, "lost", self._clock.now()))
        self._tools.lose_started(log, turn)

    async def _steps(self, log: SessionLog, turn: TurnState, between_steps: Callable[[], Awaitable[None]]) -> None:
        deadline = self._clock.monotonic() + self._limits.max_s

        def heed_pause() -> None:
            if log.state.paused:
                raise Parked("paused")

        while True:
            await self._tools.run_open(log, turn, deadline=deadline, before_each=heed_pause)
            if stop := self._limits.reached(turn):
                break
            heed_pause()
            await between_steps()
            answer = await self._model.ask(log, turn)
            if not answer.message.tool_calls:
                stop = _STOPS.get(answer.finish_reason, "end_turn")
                break
        log.stage(TurnCompleted(stop, turn.steps, turn.spent), turn.id)

    def _failed(self, log: SessionLog, turn: TurnState, failure: Failure) -> None:
        self._tools.close_open(log, turn, reason="the turn failed")
        log.stage(TurnFailed(failure, turn.steps, turn.spent), turn.id)

    async def _cancelled(self, log: SessionLog, turn: TurnState) -> None:
        if log.lost is not None:
            raise log.lost  # it is not the turn that was cancelled: this process has to leave it to another
        running = self._tools.close_open(log, turn, reason="the turn was cancelled")
        log.stage(TurnCancelled(running or ("model",), turn.steps, turn.spent), turn.id)
        async with asyncio.timeout(CLOSING_S):
            await log.flush()


def _failure(error: GreenroomError) -> Failure:
    details = error.details if isinstance(error, BudgetExceeded | AccountSuspended) else {}
    return Failure(error.code, mended(error.message), error.retryable, dict(details))
