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
    InvalidInput,
    SessionBusy,
    SessionLost,
    SessionNotFound,
)
from ..core.events import (
    MessageAccepted,
    MessageSteered,
    Spent,
    TurnCompleted,
    TurnQueued,
    TurnResumed,
    TurnStarted,
)
from .approvals import expire_due
from .control import carry_out
from .log import SessionLog, retrieve
from .loop import TurnLoop
from .orders import Order
from .results import Results, result_of
from .sessions import Receipt, Submit, TurnResult, Waiting
from .state import Accepted, TurnState

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

    def check_owner(self, user_id: str) -> None:
        """Raises `SessionNotFound` to anybody but the owner."""
        if self.log.state.user_id != user_id:
            raise SessionNotFound(session_id=self.session_id)

    # Messages -----------------------------------------------------------------------------------------

    async def submit(self, command: Submit) -> Receipt:
        """See `Sessions.submit`."""
        if self._leaving:
            raise Draining
        if known := self.log.state.accepted.get(command.message_id):
            return await self._known(command, known)
        telemetry.INBOX_RECEIVED.inc()
        try:
            receipt = await self._accept(command)
        except BaseException:
            telemetry.INBOX_REJECTED.inc()
            raise
        telemetry.INBOX_ENQUEUED.inc()
        return receipt

    async def _known(self, command: Submit, known: Accepted) -> Receipt:
        """The message came before, in this very request or in one that was repeated."""
        if known.fingerprint != command.fingerprint:
            raise IdempotencyKeyReused(session_id=self.session_id, turn_id=known.turn_id)
        await self.log.flush()
        return Receipt(self.session_id, known.turn_id, command.message_id, known.seq, self._position(known.turn_id))

    async def _accept(self, command: Submit) -> Receipt:
        state = self.log.state
        if not command.content.strip():
            raise InvalidInput("the message is empty")
        if command.on_busy == "reject":
            if state.head is not None:
                raise SessionBusy(session_id=self.session_id, turn_id=state.head.id)
        elif len(state.turns) > self.inbox_max:
            raise InboxFull(session_id=self.session_id, limit=self.inbox_max)
        on_busy = "enqueue" if command.on_busy == "reject" else command.on_busy
        body = MessageAccepted(command.message_id, command.content, command.model, on_busy, command.fingerprint)
        accepted = self.log.stage(body, command.turn_id)
        if position := self._position(command.turn_id):
            self.log.stage(TurnQueued(command.message_id, position), command.turn_id)
        if on_busy == "interrupt":
            await self._interrupt()
        self.start_next()
        await self.log.flush()
        return Receipt(self.session_id, command.turn_id, command.message_id, accepted.seq, position)

    def _position(self, turn_id: str) -> int:
        turns = list(self.log.state.turns)
        return turns.index(turn_id) if turn_id in turns else 0

    def inbox(self) -> tuple[Waiting, ...]:
        """See `Sessions.inbox`."""
        return tuple(
            Waiting(turn.message_id, turn.id, turn.content, turn.on_busy, position)
            for position, turn in enumerate(self.log.state.turns.values())
            if not turn.running
        )

    # Turns --------------------------------------------------------------------------------------------

    def start_next(self) -> None:
        """Begin, go on with, or take over the turn at the head of the mailbox, unless one runs or may not."""
        turn = self.log.state.head
        if self._running is not None or self._leaving or turn is None:
            return
        if self.log.state.paused or (turn.waiting and turn.undecided()):
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
            # Shielded: their ends are told although the turn that took them is cancelled at this moment.
            telling = asyncio.create_task(self._tell_when_durable(steers))
            telling.add_done_callback(retrieve)
            await asyncio.shield(telling)

    async def _tell_when_durable(self, turns: list[TurnState]) -> None:
        await self.log.flush()
        for turn in turns:
            self._tell(turn)

    def _tell(self, turn: TurnState) -> None:
        result = result_of(self.session_id, turn)
        self._results.put(result)
        telemetry.TURNS.labels(result.status, result.stop_reason).inc()

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
            self._tell(turn)
            status = turn.outcome.type.removeprefix("turn.")
            telemetry.TURN_SECONDS.labels(status).observe(self.touched - running.since)
        self.start_next()

    def _lost(self, reason: GreenroomError) -> None:
        """Nothing more can be written here: tell all who wait, stop what runs, and leave memory."""
        self._results.fail(reason)
        if self._running is not None:
            self._running.task.cancel()
        self.on_lost(self)

    async def result(self, turn_id: str, *, wait_s: float) -> TurnResult | None:
        """How a turn of this process ended; None when it is still under way after `wait_s`, or unknown here."""
        if done := self._results.get(turn_id):
            return done
        if turn_id not in self.log.state.turns and (self._running is None or self._running.turn.id != turn_id):
            return None
        return await self._results.wait(turn_id, wait_s)

    # Orders -------------------------------------------------------------------------------------------

    async def control(self, order: Order) -> None:
        """See `Sessions.control`."""
        if self._leaving:
            raise Draining
        if (cancelled := carry_out(order, self.log)) is not None:
            await self.cancel(cancelled)
        self.start_next()
        await self.log.flush()

    async def attend(self) -> None:
        """Do what time asks for: decide for those who did not, go on with what may."""
        if (turn := self.log.state.running) is not None:
            expire_due(self.log, turn, self.clock)
        self.start_next()
        await self.log.flush()

    async def cancel(self, turn_id: str) -> TurnResult | None:
        """See `Sessions.cancel`."""
        turn = self.log.state.turns.get(turn_id)
        if turn is None:
            await self.log.flush()  # its end may be staged and not yet written
            return self._results.get(turn_id)
        if self._running is not None and self._running.turn is turn:
            await self._cancel_running(self._running)
            await self.log.flush()
            return await self.result(turn_id, wait_s=CANCEL_S)
        self._abandon(turn)
        self.start_next()
        await self.log.flush()
        self._tell(turn)
        return self._results.get(turn_id)

    async def _interrupt(self) -> None:
        """Cancel the turn that was begun, without waiting until it has ended."""
        if self._running is not None:
            await self._cancel_running(self._running)
        elif (turn := self.log.state.running) is not None:
            self._abandon(turn)

    def _abandon(self, turn: TurnState) -> None:
        """Stage the end of a turn of which nothing is under way here."""
        self.loop.abandon(self.log, turn, self.open_attempts.pop(turn.id, ()))

    async def _cancel_running(self, running: _Running) -> None:
        # Once: a second cancel would interrupt the writing of how the first one ended.
        if running.cancelled:
            return
        running.cancelled = True
        await asyncio.sleep(0)  # a task that is cancelled before its first step writes nothing at all
        # A turn that has its end staged is over; only its writing is under way, which must not be cut off.
        if running.turn.outcome is None and running.turn.waiting:
            self._abandon(running.turn)
        elif running.turn.outcome is None:
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
