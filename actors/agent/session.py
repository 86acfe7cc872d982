"""A resident session: its mailbox and the one turn that runs in it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import (
    Draining,
    GreenroomError,
    IdempotencyKeyReused,
    InboxFull,
    SessionBusy,
    SessionLost,
    SessionNotFound,
)
from ..core.events import (
    MessageSteered,
    Spent,
    TurnCompleted,
    TurnResumed,
    TurnStarted,
)
from ..ledger.payer import paying
from .approvals import expire_due, is_due
from .control import carry_out
from .inbox import counted, position_of, take_in, waiting
from .log import SessionLog, retrieve
from .loop import TurnLoop
from .orders import Order
from .results import Results, result_of
from .sessions import Receipt, Submit, TurnResult, Waiting
from .state import Accepted
from .turn_state import TurnState

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
    inbox_max: int
    open_attempts: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Model calls of a process before this one that were never closed, by turn."""
    touched: float = 0.0
    """When it was last used, by the monotonic clock."""
    _running: _Running | None = None
    _leaving: bool = False
    _results: Results = field(default_factory=Results)

    def __post_init__(self) -> None:
        self.log.on_lost = self._lost

    @property
    def session_id(self) -> str:
        return self.log.state.session_id

    @property
    def busy(self) -> bool:
        """A turn runs, or will without anybody asking: the session must stay resident."""
        return self._running is not None or self.log.state.status == "running"

    @property
    def overdue(self) -> bool:
        """A person was asked and has not answered in time."""
        turn = self.log.state.running
        return turn is not None and any(is_due(tool, self.clock) for tool in turn.undecided())

    def check_owner(self, user_id: str) -> None:
        """Raises `SessionNotFound` to anybody but the owner."""
        if self.log.state.user_id != user_id:
            raise SessionNotFound(session_id=self.session_id)

    @property
    def _gone(self) -> bool:
        # While a turn still ends here, what comes is taken in: sent elsewhere, it would take the turn away from here.
        return self._leaving and self._running is None

    # Messages -----------------------------------------------------------------------------------------

    async def submit(self, command: Submit) -> Receipt:
        """See `Sessions.submit`."""
        if self._gone:
            raise Draining
        if known := self.log.state.accepted.get(command.message_id):
            return await self._known(command, known)
        created = self.log.state.created
        with paying(command.payer):
            await self.loop.admit(self.log, command.model or (created.model if created else ""))
        if self._gone:
            raise Draining
        if known := self.log.state.accepted.get(command.message_id):  # the same one came in meanwhile
            return await self._known(command, known)
        with counted():
            try:
                return await self._accept(command)
            except (SessionBusy, InboxFull):
                await self.log.confirm()  # a refusal is as good as what is known here
                raise

    async def _known(self, command: Submit, known: Accepted) -> Receipt:
        """The message came before, in this very request or in one that was repeated."""
        if known.fingerprint != command.fingerprint:
            raise IdempotencyKeyReused(session_id=self.session_id, turn_id=known.turn_id)
        await self.log.flush()
        position = position_of(self.log.state, known.turn_id)
        return Receipt(self.session_id, known.turn_id, command.message_id, known.seq, position)

    async def _accept(self, command: Submit) -> Receipt:
        receipt = take_in(self.log, command, inbox_max=self.inbox_max)
        if command.on_busy == "interrupt":
            self._interrupt()
        self.start_next()
        await self.log.flush()
        return receipt

    async def inbox(self) -> tuple[Waiting, ...]:
        """See `Sessions.inbox`."""
        await self.log.confirm()
        return waiting(self.log.state)

    # Turns --------------------------------------------------------------------------------------------

    def start_next(self) -> None:
        """Begin, go on with, or take over the turn at the head of the mailbox, unless one runs or may not."""
        turn = self.log.state.head
        if self._running is not None or self._leaving or self.log.lost is not None:
            return
        if turn is None or turn.blocked or self.log.state.paused:
            return
        recoverable = True
        if turn.waiting:
            self.log.stage(TurnResumed(), turn.id)
        elif turn.running:
            recoverable = self.loop.recover(self.log, turn, self.open_attempts.pop(turn.id, ()))
        else:
            self.log.stage(TurnStarted(turn.message_id, turn.model), turn.id)
        work = self.loop.run(self.log, turn, self._take_steers) if recoverable else self.log.flush()
        task = asyncio.create_task(work, name=f"turn {turn.id}")
        self._running = _Running(turn, task, self.clock.monotonic())
        telemetry.RUNNING_TURNS.inc()
        task.add_done_callback(self._ended)

    async def _take_steers(self) -> None:
        """Take messages that are to steer the turn that runs into it; their own turns end with that."""
        assert self._running is not None
        into = self._running.turn
        steers = [t for t in self.log.state.turns.values() if t.on_busy == "steer" and not t.running]
        for turn in steers:
            self.log.stage(MessageSteered(turn.message_id, into.id), turn.id)
            self.log.stage(TurnCompleted("steered", 0, Spent()), turn.id)
        if steers:
            await asyncio.shield(self._tell_when_durable(steers))

    def _tell_when_durable(self, turns: list[TurnState]) -> "asyncio.Task[None]":
        """In a task of its own: those who wait are told although whoever asked for the end goes away."""
        for turn in turns:
            self._results.expect(turn)
        telling = asyncio.create_task(self._tell_later(turns), name=f"tell {self.session_id}")
        telling.add_done_callback(retrieve)
        return telling

    async def _tell_later(self, turns: list[TurnState]) -> None:
        await self.log.flush()
        for turn in turns:
            self._results.put(result_of(self.session_id, turn))
        self._release()

    def _ended(self, task: asyncio.Task[None]) -> None:
        running, self._running = self._running, None
        assert running is not None
        telemetry.RUNNING_TURNS.dec()
        self.touched = self.clock.monotonic()
        turn = running.turn
        failed = task.cancelled() or task.exception() is not None  # asked for in any case: so it is retrieved
        if failed or (turn.outcome is None and not turn.waiting):
            # The turn cannot go on in this process. Its journal says so to whoever takes it over.
            self.log.lose(SessionLost(session_id=self.session_id))
            return
        if turn.outcome is not None:
            if turn.waiting:  # cancelled while it was parked: its end may still be on its way
                self._tell_when_durable([turn])
            else:
                self._results.put(result_of(self.session_id, turn))
            status = turn.outcome.type.removeprefix("turn.")
            telemetry.TURN_SECONDS.labels(status).observe(self.touched - running.since)
        self.start_next()
        self._release()

    def _release(self) -> None:
        """Where nothing goes on until a person says so, those who wait for a turn need not."""
        if not self.busy:
            self._results.release()

    def _lost(self, reason: GreenroomError) -> None:
        """Nothing more can be written here: tell all who wait, stop what runs, and leave memory."""
        self._results.fail(reason)
        if self._running is not None:
            self._running.task.cancel()
        self.on_lost(self)

    async def result(self, turn_id: str, *, wait_s: float) -> TurnResult | None:
        """How a turn of this process ended; None when it is still under way after `wait_s`, or unknown here.

        None at once as well when nothing goes on until a person decides, or resumes the session.
        """
        if done := self._results.get(turn_id):
            return done
        if self.log.lost is not None:
            raise self.log.lost
        under_way = self._running is not None and self._running.turn.id == turn_id
        to_come = self.busy and turn_id in self.log.state.turns
        if not (under_way or to_come or self._results.expects(turn_id)):
            return None
        return await self._results.wait(turn_id, wait_s)

    # Orders -------------------------------------------------------------------------------------------

    async def control(self, order: Order) -> None:
        """See `Sessions.control`."""
        if self._gone:
            raise Draining
        self._expire()  # so that nobody approves what has expired
        try:
            cancelled = carry_out(order, self.log)
        except GreenroomError:
            await self.attend()
            await self.log.confirm()
            raise
        if cancelled is not None:
            await self.cancel(cancelled)
        self.start_next()
        await self.log.flush()

    async def attend(self) -> None:
        """Do what time asks for: decide for those who did not, go on with what may."""
        self._expire()
        self.start_next()
        await self.log.flush()

    def _expire(self) -> None:
        if (turn := self.log.state.running) is not None:
            expire_due(self.log, turn, self.clock)

    async def cancel(self, turn_id: str) -> TurnResult | None:
        """See `Sessions.cancel`."""
        turn = self.log.state.turns.get(turn_id)
        if turn is not None and self._running is not None and self._running.turn is turn:
            self._cancel_running(self._running)
        elif turn is not None:
            self._abandon(turn)
            self.start_next()
        await self.log.flush()  # its end may be staged and not yet written
        ended = await self.result(turn_id, wait_s=CANCEL_S)
        if turn is None and ended is None:
            await self.log.confirm()
        return ended

    def _interrupt(self) -> None:
        """Cancel the turn that was begun, without waiting until it has ended."""
        if self._running is not None:
            self._cancel_running(self._running)
        elif (turn := self.log.state.running) is not None:
            self._abandon(turn)

    def _abandon(self, turn: TurnState) -> None:
        """Stage the end of a turn of which nothing is under way here, and see that it is told."""
        self.loop.abandon(self.log, turn, self.open_attempts.pop(turn.id, ()))
        self._tell_when_durable([turn])

    def _cancel_running(self, running: _Running) -> None:
        # Once: a second cancel would interrupt the writing of how the first one ended.
        if not running.cancelled:
            running.cancelled = True
            # Later: a task that is cancelled before its first step writes nothing at all.
            asyncio.get_running_loop().call_soon(self._stop, running)

    def _stop(self, running: _Running) -> None:
        # A turn that has its end staged is over; only its writing is under way, which must not be cut off.
        if running.turn.outcome is not None:
            return
        if self._running is None:  # it was parked in this very moment
            self._abandon(running.turn)
            self.start_next()
        elif self._running is not running:  # and was resumed
            self._cancel_running(self._running)
        elif running.turn.waiting:  # its parking is being written
            self.loop.abandon(self.log, running.turn, ())
        else:
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
        # Lost, not cancelled: a turn that has not ended by now goes on elsewhere.
        self.log.lose(reason)
        await asyncio.wait([task], timeout=CANCEL_S)
