"""A resident session: its mailbox and the one turn that runs in it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import Draining, GreenroomError, InvalidInput, SessionLost, SessionNotFound
from ..core.events import MessageAccepted, TurnCancelled, TurnFailed, TurnQueued, TurnStarted
from .log import SessionLog
from .loop import TurnLoop
from .sessions import Receipt, Submit, ToolOutcome, TurnResult
from .state import TurnState

RESULTS_KEPT = 8
"""Results of the newest ended turns, for callers that come back for one that has just ended."""

CANCEL_S = 10.0
"""A cancel that has not ended the turn by then gives up and says so."""


@dataclass(slots=True)
class _Running:
    turn: TurnState
    task: asyncio.Task[None]
    since: float
    cancelled: bool = False


@dataclass(slots=True)
class Session:
    """Takes messages in, runs their turns one after the other. Belongs to one event loop."""

    log: SessionLog
    loop: TurnLoop
    clock: Clock
    on_lost: "Callable[[Session], None]"
    """Told when the session can no longer be written here, so that it is dropped."""
    open_attempts: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Model calls of a process before this one that were never closed, by turn."""
    touched: float = 0.0
    """When it was last used, by the monotonic clock."""
    _running: _Running | None = None
    _leaving: bool = False
    _waiters: dict[str, asyncio.Future[TurnResult]] = field(default_factory=dict[str, "asyncio.Future[TurnResult]"])
    _results: dict[str, TurnResult] = field(default_factory=dict[str, TurnResult])

    def __post_init__(self) -> None:
        self.log.on_lost = self._lost

    @property
    def session_id(self) -> str:
        return self.log.state.session_id

    @property
    def busy(self) -> bool:
        """A turn runs or waits: the session must stay resident."""
        return self._running is not None or bool(self.log.state.turns)

    def check_owner(self, user_id: str) -> None:
        """Raises `SessionNotFound` to anybody but the owner."""
        if self.log.state.user_id != user_id:
            raise SessionNotFound(session_id=self.session_id)

    async def submit(self, command: Submit) -> Receipt:
        """See `Sessions.submit`."""
        if self._leaving:
            raise Draining
        if not command.content.strip():
            raise InvalidInput("the message is empty")
        state = self.log.state
        if known := state.accepted.get(command.message_id):
            await self.log.flush()
            turns = list(state.turns)
            position = turns.index(known.turn_id) if known.turn_id in turns else 0
            return Receipt(self.session_id, known.turn_id, command.message_id, known.seq, position)
        position = len(state.turns)
        accepted = self.log.stage(MessageAccepted(command.message_id, command.content, command.model), command.turn_id)
        if position:
            self.log.stage(TurnQueued(command.message_id, position), command.turn_id)
        self.start_next()
        await self.log.flush()
        return Receipt(self.session_id, command.turn_id, command.message_id, accepted.seq, position)

    def start_next(self) -> None:
        """Begin, or take over, the turn at the head of the mailbox, unless one runs."""
        if self._running is not None or self._leaving or not self.log.state.turns:
            return
        turn = next(iter(self.log.state.turns.values()))
        recoverable = True
        if turn.running:
            recoverable = self.loop.recover(self.log, turn, self.open_attempts.pop(turn.id, ()))
        else:
            self.log.stage(TurnStarted(turn.message_id, turn.model), turn.id)
        work = self.loop.run(self.log, turn) if recoverable else self.log.flush()
        task = asyncio.create_task(work, name=f"turn {turn.id}")
        self._running = _Running(turn, task, self.clock.monotonic())
        telemetry.RUNNING_TURNS.inc()
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        running, self._running = self._running, None
        assert running is not None
        telemetry.RUNNING_TURNS.dec()
        self.touched = self.clock.monotonic()
        turn = running.turn
        failed = task.cancelled() or task.exception() is not None  # asked for in any case: so it is retrieved
        if failed or turn.outcome is None:
            # The turn cannot go on in this process. Its journal says so to whoever takes it over.
            self.log.lose(SessionLost(session_id=self.session_id))
            return
        result = result_of(self.session_id, turn)
        self._results[turn.id] = result
        while len(self._results) > RESULTS_KEPT:
            del self._results[next(iter(self._results))]
        if waiter := self._waiters.pop(turn.id, None):
            waiter.set_result(result)
        telemetry.TURNS.labels(result.status, result.stop_reason).inc()
        telemetry.TURN_SECONDS.labels(result.status).observe(self.touched - running.since)
        self.start_next()

    def _lost(self, reason: GreenroomError) -> None:
        """Nothing more can be written here: tell all who wait, stop what runs, and leave memory."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.set_exception(reason)
            waiter.exception()  # retrieved: whoever waited may have gone
        if self._running is not None:
            self._running.task.cancel()
        self.on_lost(self)

    async def result(self, turn_id: str, *, wait_s: float) -> TurnResult | None:
        """How a turn of this process ended; None when it is still under way after `wait_s`, or unknown here."""
        if done := self._results.get(turn_id):
            return done
        if turn_id not in self.log.state.turns and (self._running is None or self._running.turn.id != turn_id):
            return None
        waiter = self._waiters.get(turn_id)
        if waiter is None:
            waiter = self._waiters[turn_id] = asyncio.get_running_loop().create_future()
        done_now, _ = await asyncio.wait([waiter], timeout=wait_s)
        return waiter.result() if done_now else None

    async def cancel(self, turn_id: str) -> TurnResult | None:
        """See `Sessions.cancel`."""
        turn = self.log.state.turns.get(turn_id)
        if turn is None:
            await self.log.flush()  # its end may be staged and not yet written
            return self._results.get(turn_id)
        if self._running is not None and self._running.turn.id == turn_id:
            await self._cancel_running(self._running)
            return await self.result(turn_id, wait_s=CANCEL_S)
        self.log.stage(TurnCancelled((), 0, turn.spent), turn_id)
        await self.log.flush()
        result = self._results[turn_id] = result_of(self.session_id, turn)
        if waiter := self._waiters.pop(turn_id, None):
            waiter.set_result(result)
        return result

    async def _cancel_running(self, running: _Running) -> None:
        # Once: a second cancel would interrupt the writing of how the first one ended.
        if not running.cancelled:
            running.cancelled = True
            await asyncio.sleep(0)  # a task that is cancelled before its first step writes nothing at all
            # A turn that has its end staged is over; only its writing is under way, which must not be cut off.
            if running.turn.outcome is None:
                running.task.cancel()

    async def leave(self, *, grace_s: float, reason: GreenroomError | None = None) -> None:
        """Stop without ending the turn: after `grace_s` it is left to whoever activates the session next.

        Readers are told `reason`, by default that the session is lost here.
        """
        reason = reason or SessionLost(session_id=self.session_id)
        self._leaving = True
        if self._running is None:
            self.log.lose(reason)
            return
        task = self._running.task
        await asyncio.wait([task], timeout=grace_s)
        if not task.done():
            # Lost, not cancelled: the turn has not ended, it goes on elsewhere.
            self.log.lose(reason)
            await asyncio.wait([task], timeout=CANCEL_S)


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
    )
