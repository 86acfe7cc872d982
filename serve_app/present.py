"""The runtime's values in the words of the HTTP API."""

from datetime import datetime
from typing import Any, cast

from actors.agent.approval_book import ApprovalRow
from actors.agent.book import SessionRow, TurnRow
from actors.agent.sessions import Receipt, TurnResult, Waiting
from actors.core.clock import rfc3339
from actors.core.events import ApprovalExpired, ApprovalResolved, MessageAccepted, Spent, TurnCancelled, TurnFailed
from actors.core.messages import Usage
from actors.core.money import MICROS_PER_USD
from actors.llm.base import ModelInfo
from actors.sandbox.base import CopyResult, ExecResult, FileInfo

from .schemas import (
    Accepted,
    ApprovalOut,
    ChatResponse,
    CopiedOut,
    CostOut,
    ErrorOut,
    ExecOut,
    FileOut,
    ForkOut,
    InboxEntry,
    ModelOut,
    OriginOut,
    SessionOut,
    SessionStatus,
    ToolCallOut,
    TurnOut,
    TurnStatus,
    Unfinished,
    UsageOut,
)


def usage(value: Usage) -> UsageOut:
    return UsageOut(
        prompt_tokens=value.prompt_tokens,
        completion_tokens=value.completion_tokens,
        total_tokens=value.total_tokens,
        cached_tokens=value.cached_tokens,
        reasoning_tokens=value.reasoning_tokens,
    )


def cost(spent: Spent) -> CostOut:
    dollars, micros = divmod(spent.cost_micros, MICROS_PER_USD)
    return CostOut(micros=spent.cost_micros, usd=f"{dollars}.{micros:06d}", known=spent.cost_known)


def chat(result: TurnResult) -> ChatResponse:
    return ChatResponse(
        session_id=result.session_id,
        turn_id=result.turn_id,
        message=result.message,
        tool_calls=[
            ToolCallOut(
                id=tool.call.id,
                name=tool.call.name,
                arguments=tool.call.arguments,
                content=tool.content,
                error=tool.error,
                duration_ms=tool.duration_ms,
            )
            for tool in result.tools
        ],
        stop_reason=result.stop_reason,
        usage=usage(result.spent.usage),
        cost=cost(result.spent),
    )


def accepted(receipt: Receipt) -> Accepted:
    return Accepted(
        session_id=receipt.session_id,
        turn_id=receipt.turn_id,
        message_id=receipt.message_id,
        position=receipt.position,
    )


def unfinished(receipt: Receipt, row: TurnRow, approval_ids: list[str]) -> Unfinished:
    return Unfinished(
        **accepted(receipt).model_dump(), status=cast("TurnStatus", row.status), approval_ids=approval_ids
    )


def inbox_entry(entry: Waiting) -> InboxEntry:
    return InboxEntry(
        message_id=entry.message_id,
        turn_id=entry.turn_id,
        content=entry.content,
        on_busy=entry.on_busy,
        position=entry.position,
    )


def begun_entry(row: TurnRow, message: MessageAccepted) -> InboxEntry:
    """What the inbox said last of a message whose turn has begun."""
    return InboxEntry(
        message_id=row.message_id, turn_id=row.id, content=message.content, on_busy=message.on_busy, position=0
    )


def session(row: SessionRow) -> SessionOut:
    return SessionOut.model_validate(_session(row))


def fork(row: SessionRow, copied: CopyResult | None) -> ForkOut:
    workspace = None if copied is None else CopiedOut(files=copied.files, bytes=copied.size_bytes)
    return ForkOut.model_validate({**_session(row), "workspace": workspace})


def _session(row: SessionRow) -> dict[str, Any]:
    origin = row.forked_from
    return {
        "id": row.id,
        "title": row.title,
        "model": row.model,
        "system": row.system,
        "metadata": row.metadata,
        "status": cast("SessionStatus", row.status),
        "approvals": list(row.approvals),
        "forked_from": None if origin is None else OriginOut(session_id=origin.session_id, seq=origin.seq),
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "last_seq": row.last_seq,
        "oldest_seq": row.oldest_seq,
        "usage": usage(row.spent.usage),
        "cost": cost(row.spent),
    }


def turn(row: TurnRow) -> TurnOut:
    outcome = row.outcome
    spent = outcome.spent if outcome else Spent()
    error, stop_reason, stopped = None, None, ()
    if isinstance(outcome, TurnFailed):
        failure = outcome.error
        error = ErrorOut(
            code=failure.code, message=failure.message, retryable=failure.retryable, details=failure.details
        )
        stop_reason = "error"
    elif isinstance(outcome, TurnCancelled):
        stop_reason, stopped = "cancelled", outcome.stopped
    elif outcome is not None:
        stop_reason = outcome.stop_reason
    return TurnOut(
        id=row.id,
        session_id=row.session_id,
        message_id=row.message_id,
        status=cast("TurnStatus", row.status),
        stop_reason=stop_reason,
        error=error,
        stopped=list(stopped),
        steps=outcome.steps if outcome else 0,
        usage=usage(spent.usage),
        cost=cost(spent),
        created_at=rfc3339(row.created_at),
        finished_at=_at(row.finished_at),
    )


def approval(row: ApprovalRow) -> ApprovalOut:
    resolution = row.resolution
    by_a_person = resolution if isinstance(resolution, ApprovalResolved) else None
    # Of a turn that ended before nobody decided anything.
    cancelled = isinstance(resolution, ApprovalExpired) and resolution.cancelled
    return ApprovalOut(
        id=row.id,
        session_id=row.session_id,
        turn_id=row.turn_id,
        tool_call_id=row.request.tool_call_id,
        name=row.request.name,
        arguments=row.request.arguments,
        status=row.status,
        created_at=rfc3339(row.created_at),
        expires_at=rfc3339(row.request.expires_at),
        on_expiry=row.request.on_expiry,
        resolved_at=_at(row.resolved_at),
        decision=None if resolution is None or cancelled else resolution.decision,
        reason=by_a_person.reason if by_a_person else None,
        by=by_a_person.by if by_a_person else None,
    )


def _at(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def executed(result: ExecResult) -> ExecOut:
    return ExecOut(
        verdict=result.verdict,
        exit_code=result.exit_code,
        output=result.output,
        truncated=result.truncated,
        wall_s=round(result.wall_s, 3),
        output_bytes=result.output_bytes,
        cpu_s=None if result.cpu_s is None else round(result.cpu_s, 3),
        peak_memory_bytes=result.peak_memory_bytes,
        variables=result.variables,
    )


def file(info: FileInfo) -> FileOut:
    return FileOut(path=info.path, type="folder" if info.is_dir else "file", size_bytes=info.size_bytes)


def model(info: ModelInfo) -> ModelOut:
    return ModelOut(
        id=info.id,
        name=info.name,
        context_length=info.context_length,
        prompt_usd=None if info.prompt_usd is None else str(info.prompt_usd),
        completion_usd=None if info.completion_usd is None else str(info.completion_usd),
        price_source=None if info.prompt_usd is None else info.price_source,
    )
