"""One question to the model, from the ledger row before it to the events after it."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import cast

from ..core import telemetry
from ..core.clock import Clock
from ..core.errors import GreenroomError, ModelProtocolError, ModelRefused, UnknownModel
from ..core.events import CostSource, MessageCompleted, ModelReplaced, ToolRequested, UsageUpdated
from ..core.ids import NewId
from ..core.messages import AssistantMessage, ToolCall, ToolSpec, Usage
from ..core.text import mended, mended_json, storable
from ..ledger.book import AttemptClosed, AttemptNamed, AttemptOpened
from ..llm.base import (
    LLM,
    Answer,
    Began,
    ModelRequest,
    Queued,
    ReasoningText,
    Resending,
    Retrying,
    Sending,
    StreamItem,
    TextDelta,
)
from .log import SessionLog
from .prompt import messages_for
from .reactions import event_of
from .spending import Paid, Spending
from .turn_state import TurnState

MAX_CALLS = 32
"""Tool calls that one answer may ask for; the rest is refused with the answer, which is then no valid one."""

INTERRUPTED = "interrupted"
"""`finish_reason` of an answer that broke off: an error, a cancel, or the turn's deadline."""

NOT_SENT = "not_sent"
"""Outcome of a row whose request was never made: a cancel came first, or a breaker or a limit refused it."""

NAMED_AFTER_S = 0.25
"""A call that runs longer than that has its name at the server written down, for when this process dies over it."""

_NOTHING = Decimal(0)


@dataclass(slots=True)
class _Attempt:
    """What is known of the call while it runs."""

    id: str
    message_id: str
    started: float
    model: str
    paid: Paid | None = None
    """What is held for it; None where nothing is."""
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    first_token: bool = False
    answer: Answer | None = None
    generation_id: str | None = None
    queued: bool = False
    """It waits for other calls to end: nothing of it was sent."""
    closed: bool = False
    """Its ledger row has its end: it was never sent, or it failed and the next one is not yet sent."""


class ModelCall:
    """Asks a model on behalf of turns. Holds no state between calls."""

    def __init__(
        self,
        llm: LLM,
        *,
        tools: tuple[ToolSpec, ...],
        clock: Clock,
        new_id: NewId,
        max_completion_tokens: int,
        default_system: str | None,
        spending: Spending | None = None,
    ) -> None:
        """Without `spending` no budget is kept."""
        self._llm = llm
        self._tools = tools
        self._clock = clock
        self._new_id = new_id
        self._max_completion_tokens = max_completion_tokens
        self._default_system = default_system
        self._spending = spending

    async def admit(self, user_id: str, session_id: str, model: str) -> None:
        """Raises `BudgetExceeded`, `AccountSuspended` where no call could pass, `LedgerUnavailable`."""
        if self._spending is not None:
            await self._spending.check(user_id, session_id, model)

    async def ask(self, log: SessionLog, turn: TurnState) -> Answer:
        """Stream an answer into `log`; its closing events are staged, not flushed.

        Raises what `LLM.stream` raises, after staging what was received and that the attempt ended.
        """
        model = await self._chosen(log, turn)
        attempt = _Attempt(self._new_id("att"), self._new_id("msg"), self._clock.monotonic(), model)
        request = ModelRequest(
            model,
            messages_for(log.state, model, self._default_system),
            tools=self._tools,
            max_completion_tokens=self._max_completion_tokens,
            session_ref=log.state.session_id,
            user_ref=log.state.user_id,
        )
        request = await self._open(attempt, request, log, turn, first=True)
        try:
            answer = await self._receive(request, attempt, log, turn)
        except BaseException as error:  # cancellation too ends the attempt, and its text stays
            if not attempt.closed:
                await self._pay(attempt, self._stage_broken(attempt, error, log, turn), log, turn)
            raise
        await self._pay(attempt, self._stage_answer(attempt, answer, log, turn), log, turn)
        return answer

    async def _chosen(self, log: SessionLog, turn: TurnState) -> str:
        """The turn's model, or a cheaper one where its user's budget is paused; then readers are told."""
        if self._spending is None:
            return turn.model
        model = await self._spending.choose(log.state.user_id, log.state.session_id, turn.model)
        if model != turn.model and model != turn.replaced_by:
            log.stage(ModelReplaced(turn.model, model), turn.id)
        return model

    async def _open(
        self, attempt: _Attempt, request: ModelRequest, log: SessionLog, turn: TurnState, *, first: bool
    ) -> ModelRequest:
        """Write the attempt's row and hold what it may cost, before anything of it is sent.

        Returns the request as it may be sent: with a shorter answer where little money is left.
        """
        attempt.closed = False
        state, now = log.state, self._clock.now()
        log.stage_attempt(AttemptOpened(attempt.id, turn.id, state.session_id, state.user_id, attempt.model, now))
        try:
            await log.flush()
        except asyncio.CancelledError:
            # Nothing was sent: the row must not say that money may have been spent.
            account(log, turn, _free(attempt.id, NOT_SENT, self._clock.now()), attempt.model)
            attempt.closed = True
            raise
        try:
            return await self._reserve(attempt, request, first=first)
        except BaseException as error:
            outcome = error.code if isinstance(error, GreenroomError) else NOT_SENT
            closed = _free(attempt.id, outcome, self._clock.now())
            account(log, turn, closed, attempt.model)
            attempt.closed = True
            await self._pay(attempt, closed, log, turn)
            raise

    async def _reserve(self, attempt: _Attempt, request: ModelRequest, *, first: bool) -> ModelRequest:
        if self._spending is not None:
            attempt.paid, request = await self._spending.reserve(attempt.id, request, first=first)
            await self._spending.dispatch(attempt.paid)
        return request

    async def _pay(self, attempt: _Attempt, closed: AttemptClosed, log: SessionLog, turn: TurnState) -> None:
        if self._spending is not None and attempt.paid is not None:
            paid, attempt.paid = attempt.paid, None
            for alert in await self._spending.close(paid, closed):
                log.stage(event_of(alert), turn.id)

    async def _failed(self, attempt: _Attempt, failed: Retrying, log: SessionLog, turn: TurnState) -> None:
        """The model client will make another attempt: close the row of the one that failed."""
        now = self._clock.now()
        closed = (
            _free(attempt.id, failed.outcome, now) if failed.free else AttemptClosed(attempt.id, failed.outcome, now)
        )
        closed = replace(closed, generation_id=failed.generation_id or attempt.generation_id)
        self._close(closed, attempt, log, turn)
        attempt.closed = True
        await self._pay(attempt, closed, log, turn)

    async def _again(self, attempt: _Attempt, request: ModelRequest, log: SessionLog, turn: TurnState) -> None:
        attempt.id, attempt.started = self._new_id("att"), self._clock.monotonic()
        attempt.generation_id = None
        await self._open(attempt, request, log, turn, first=False)

    async def _receive(self, request: ModelRequest, attempt: _Attempt, log: SessionLog, turn: TurnState) -> Answer:
        # aclosing: leaving early must end the request now, not when the garbage collector comes by.
        stream = cast("AsyncGenerator[StreamItem, None]", self._llm.stream(request))
        async with aclosing(stream) as items:
            async for item in items:
                match item:
                    case TextDelta() | ReasoningText():
                        self._first_token(attempt)
                        self._show(item, attempt, log, turn)
                    case Retrying():
                        await self._failed(attempt, item, log, turn)
                    case Queued() | Sending():
                        attempt.queued = isinstance(item, Queued)
                    case Resending():
                        await self._again(attempt, request, log, turn)
                    case Began(generation_id):
                        attempt.generation_id = storable(generation_id)
                        log.stage_attempt(AttemptNamed(attempt.id, attempt.generation_id))
                        log.flush_later(NAMED_AFTER_S)
                    case Answer():
                        attempt.answer = _named(item)
        if attempt.answer is None:
            raise ModelProtocolError("the model's stream ended without an answer")
        if len(attempt.answer.message.tool_calls) > MAX_CALLS:
            raise ModelProtocolError(f"the model asked for more than {MAX_CALLS} tool calls at once")
        return attempt.answer

    def _show(self, item: TextDelta | ReasoningText, attempt: _Attempt, log: SessionLog, turn: TurnState) -> None:
        text = mended(item.text)
        if isinstance(item, TextDelta):
            attempt.text.append(text)
            log.preview("message.delta", turn.id, attempt.message_id, text)
        else:
            attempt.reasoning.append(text)
            log.preview("reasoning.delta", turn.id, attempt.message_id, text)

    def _first_token(self, attempt: _Attempt) -> None:
        if not attempt.first_token:
            attempt.first_token = True
            waited = self._clock.monotonic() - attempt.started
            telemetry.LLM_FIRST_TOKEN_SECONDS.labels(telemetry.model_label(attempt.model)).observe(waited)

    def _stage_answer(self, attempt: _Attempt, answer: Answer, log: SessionLog, turn: TurnState) -> AttemptClosed:
        calls = self._acceptable(answer.message.tool_calls, log)
        log.stage(
            MessageCompleted(
                message_id=attempt.message_id,
                content=mended(answer.message.content),
                model=answer.model,
                finish_reason=answer.finish_reason,
                tool_calls=calls,
                provider=answer.provider,
                reasoning=answer.reasoning and mended(answer.reasoning),
                reasoning_details=tuple(mended_json(detail) for detail in answer.message.reasoning_details),
            ),
            turn.id,
        )
        log.clear_previews()
        closed = AttemptClosed(
            attempt.id,
            answer.finish_reason,
            self._clock.now(),
            model=answer.model,
            provider=answer.provider,
            generation_id=answer.generation_id,
            usage=answer.usage,
            cost_usd=answer.cost_usd,
            cost_source=answer.cost_source,
        )
        self._close(closed, attempt, log, turn)
        for call in calls:
            log.stage(ToolRequested(call), turn.id)
        return closed

    def _stage_broken(self, attempt: _Attempt, error: BaseException, log: SessionLog, turn: TurnState) -> AttemptClosed:
        partial = "".join(attempt.text)
        if partial:
            log.stage(
                MessageCompleted(
                    attempt.message_id,
                    partial,
                    attempt.model,
                    INTERRUPTED,
                    reasoning="".join(attempt.reasoning) or None,
                ),
                turn.id,
            )
        log.clear_previews()
        # A request that was refused costs nothing; of any other that broke off nobody knows yet.
        free = attempt.queued or (_never_billed(error) and not attempt.first_token)
        answer = attempt.answer
        source: CostSource = "free" if free else "unknown"
        outcome = error.code if isinstance(error, GreenroomError) else "cancelled"
        details = error.details if isinstance(error, GreenroomError) else {}
        if attempt.queued or details.get("not_sent"):
            outcome = NOT_SENT
        closed = AttemptClosed(
            attempt.id,
            outcome,
            self._clock.now(),
            generation_id=details.get("generation_id") or attempt.generation_id,
            usage=answer.usage if answer else Usage() if free else None,
            cost_usd=answer.cost_usd if answer else _NOTHING if free else None,
            cost_source=answer.cost_source if answer else source,
        )
        self._close(closed, attempt, log, turn)
        return closed

    def _close(self, closed: AttemptClosed, attempt: _Attempt, log: SessionLog, turn: TurnState) -> None:
        account(log, turn, closed, attempt.model)
        label = telemetry.model_label(attempt.model)
        telemetry.LLM_REQUESTS.labels(label, closed.provider or "", closed.outcome).inc()
        telemetry.LLM_SECONDS.labels(label).observe(self._clock.monotonic() - attempt.started)
        telemetry.COST_DOLLARS.labels(label, "chat").inc(closed.spent.cost_micros / 1_000_000)

    def _acceptable(self, calls: tuple[ToolCall, ...], log: SessionLog) -> tuple[ToolCall, ...]:
        """The calls as every provider takes them back: ids that stand once in the session, names of plain letters.

        Some models count from `call_1` in every answer, or invent tools.
        """
        said = (m for m in log.state.transcript if isinstance(m, AssistantMessage))
        taken = {call.id for message in said for call in message.tool_calls}
        unique: list[ToolCall] = []
        for call in calls:
            call_id = mended(call.id)
            if not call_id or call_id in taken:
                call_id = self._new_id("call")
            taken.add(call_id)
            unique.append(ToolCall(call_id, _plain(call.name), mended(call.arguments)))
        return tuple(unique)


def _named(answer: Answer) -> Answer:
    """The answer with names that the ledger's columns can hold."""
    return replace(
        answer,
        model=storable(answer.model),
        finish_reason=storable(answer.finish_reason),
        provider=answer.provider and storable(answer.provider),
        generation_id=answer.generation_id and storable(answer.generation_id),
    )


def _never_billed(error: BaseException) -> bool:
    return isinstance(error, ModelRefused | UnknownModel) or (
        isinstance(error, GreenroomError) and error.details.get("free") is True
    )


def _free(attempt_id: str, outcome: str, now: datetime) -> AttemptClosed:
    return AttemptClosed(attempt_id, outcome, now, usage=Usage(), cost_usd=_NOTHING, cost_source="free")


def account(log: SessionLog, turn: TurnState, closed: AttemptClosed, model: str | None = None) -> None:
    """Stage the end of an attempt: its ledger row, and the event that adds it to the session's total.

    `model` is what was asked, by default the turn's.
    """
    log.stage_attempt(closed)
    log.stage(
        UsageUpdated(
            closed.id,
            closed.model or model or turn.model,
            closed.spent,
            log.state.spent + closed.spent,
            cost_source=closed.cost_source,
        ),
        turn.id,
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unnamed"
