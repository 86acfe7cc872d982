"""The calls of one answer, run in the order in which the model asked: intent before, outcome after."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from ..core import telemetry
from ..core.clock import Clock
from ..core.events import ToolCompleted, ToolOutcomeUnknown, ToolStarted
from ..core.messages import ToolCall
from ..core.text import mended, mended_json
from ..memory.base import MemoryStore
from ..sandbox.fence import Fence, bound
from ..security.guard import Caller, SandboxGuard
from ..tools.base import OUTCOME_UNKNOWN, ToolContext, ToolResult
from ..tools.toolbox import Toolbox
from .approvals import Approvals, refuse, withdraw_requests
from .log import SessionLog
from .meters import Meters
from .parking import Parked
from .spending import Spending
from .turn_state import ToolState, TurnState

STOP_S = 15.0
"""Time for stopping what a dead process left running: no tool of the session runs before that."""

_PAUSED = "[The user's budget is paused for what is expensive: a program may run for {:g} s at most now.]"


class ToolCalls:
    """Runs tools on behalf of turns. Between calls it holds what it still has to stop."""

    def __init__(
        self,
        toolbox: Toolbox,
        approvals: Approvals,
        *,
        guard: SandboxGuard,
        memories: MemoryStore,
        meters: Meters,
        clock: Clock,
        spending: Spending | None = None,
    ) -> None:
        """Without `spending` programs run as long as they may, whatever is left of a budget."""
        self._toolbox = toolbox
        self._approvals = approvals
        self._guard = guard
        self._memories = memories
        self._meters = meters
        self._clock = clock
        self._spending = spending
        self._names = frozenset(spec.name for spec in toolbox.specs)
        self._stopping: dict[str, asyncio.Task[None]] = {}
        """By session."""
        self._logger = structlog.get_logger("greenroom.tools")

    async def run_open(
        self, log: SessionLog, turn: TurnState, *, deadline: float, before_each: Callable[[], None]
    ) -> None:
        """Run every call that has no outcome yet; the last outcome is staged, not flushed.

        Raises `Parked` at a call for which a person is asked, and what `before_each` raises.
        """
        self._approvals.ask(log, turn)
        for tool in turn.open_calls():
            if tool.undecided:
                raise Parked("approval")
            if tool.approval is not None and tool.approval.decision == "deny":
                refuse(log, turn, tool)
            else:
                await self._run(log, turn, tool, deadline=deadline, before_each=before_each)

    async def _run(
        self,
        log: SessionLog,
        turn: TurnState,
        tool: ToolState,
        *,
        deadline: float,
        before_each: Callable[[], None],
    ) -> None:
        if (stopping := self._stopping.get(log.state.session_id)) is not None:
            await asyncio.wait({stopping})  # it would stop this call too
        left_s = max(0.0, deadline - self._clock.monotonic())
        timeout_s = await self._run_s(log, tool, left_s)
        before_each()  # after all that is waited for: what it asks must still hold at the start
        uses = self._meters.open(log, turn, tool.call, timeout_s=timeout_s)
        log.stage(ToolStarted(tool.call.id, tool.call.name), turn.id)
        try:
            await log.flush()
            started = self._clock.monotonic()
            result = await self._meters.refused(uses, log)
            if result is None:
                result = await self._call(log, turn, tool, timeout_s=max(0.0, min(timeout_s, deadline - started)))
        except BaseException:  # a call that is cancelled has taken its time all the same
            await self._meters.close(uses, log, turn, None)
            raise
        if result.error == "timeout" and timeout_s < left_s:
            result = replace(result, content=self._toolbox.fit(f"{result.content}\n{_PAUSED.format(timeout_s)}"))
        seconds = self._clock.monotonic() - started
        log.stage(_outcome(tool.call, result, seconds), turn.id)
        await self._meters.close(uses, log, turn, result)
        log.clear_previews()
        name = tool.call.name if tool.call.name in self._names else "unknown"
        telemetry.TOOL_EXECUTIONS.labels(name, result.error or "ok").inc()
        telemetry.TOOL_SECONDS.labels(name).observe(seconds)

    async def _call(self, log: SessionLog, turn: TurnState, tool: ToolState, *, timeout_s: float) -> ToolResult:
        caller = Caller(log.state.user_id, log.state.session_id, turn.id, tool.call.id)
        context = ToolContext(
            session_id=caller.session_id,
            user_id=caller.user_id,
            turn_id=turn.id,
            tool_call_id=tool.call.id,
            sandboxes=self._guard.for_call(caller),
            memories=self._memories,
            on_output=lambda text: log.preview("tool.progress", turn.id, tool.call.id, text),
            timeout_s=timeout_s,
        )
        with bound(Fence(epoch=log.epoch)):
            return await self._toolbox.run(tool.call, context)

    async def _run_s(self, log: SessionLog, tool: ToolState, timeout_s: float) -> float:
        if self._spending is None or self._toolbox.meter(tool.call.name) != "sandbox":
            return timeout_s
        return await self._spending.run_s(log.state.user_id, log.state.session_id, timeout_s)

    def close_open(self, log: SessionLog, turn: TurnState, *, reason: str) -> tuple[str, ...]:
        """Give every call without an outcome one, so that the transcript stays valid. Returns what was running.

        What a stopped tool had printed stays, as far as readers were shown it.
        """
        running: list[str] = []
        withdraw_requests(log, turn)
        for tool in turn.open_calls():
            said, duration_ms = f"Not run: {reason}.", 0
            if tool.started_at is not None:
                running.append(tool.call.name)
                printed = log.previewed("tool.progress", tool.call.id)
                said = f"Stopped before it finished: {reason}." + (f"\nIt had printed:\n{printed}" if printed else "")
                duration_ms = max(0, round((self._clock.now() - tool.started_at).total_seconds() * 1000))
            content = mended(self._toolbox.fit(said))
            log.stage(
                ToolCompleted(tool.call.id, tool.call.name, content, error="stopped", duration_ms=duration_ms), turn.id
            )
        log.clear_previews()
        return tuple(running)

    def lose_started(self, log: SessionLog, turn: TurnState) -> None:
        """At recovery: calls that were running when their process died are stopped, and not run again.

        They are stopped beside what goes on; the session's next call waits for that. Calls that a recovery before
        this one lost count too: it may have died before it had stopped them.
        """
        for tool in turn.open_calls():
            if tool.started:
                log.stage(ToolOutcomeUnknown(tool.call.id, tool.call.name), turn.id)
                self._meters.lose(log, turn, tool.call)
        if any(tool.result is not None and tool.result.error == "outcome_unknown" for tool in turn.tools.values()):
            self._stop(log.state.session_id)

    def _stop(self, session_id: str) -> None:
        if session_id in self._stopping:
            return
        self._stopping[session_id] = stopping = asyncio.create_task(
            self._interrupt(session_id), name=f"stop tools of {session_id}"
        )
        stopping.add_done_callback(lambda _: self._stopping.pop(session_id))

    async def _interrupt(self, session_id: str) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._guard.sandboxes.interrupt(session_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the turn goes on without
            self._logger.warning("a lost tool could not be stopped", session_id=session_id, error=repr(error))


def _outcome(call: ToolCall, result: ToolResult, seconds: float) -> ToolCompleted | ToolOutcomeUnknown:
    if result.error == OUTCOME_UNKNOWN:
        return ToolOutcomeUnknown(call.id, call.name)
    return ToolCompleted(
        call.id,
        call.name,
        mended(result.content),
        error=result.error,
        duration_ms=round(seconds * 1000),
        data=mended_json(result.data),
    )
