"""The runtime's values in the words of the HTTP API."""

from actors.agent.book import SessionRow, TurnRow
from actors.agent.sessions import Receipt, TurnResult
from actors.core.clock import rfc3339
from actors.core.events import Spent, TurnCompleted, TurnFailed
from actors.core.messages import Usage
from actors.core.money import MICROS_PER_USD
from actors.llm.base import ModelInfo

from .schemas import (
    Accepted,
    ChatResponse,
    CostOut,
    ErrorOut,
    ModelOut,
    SessionOut,
    ToolCallOut,
    TurnOut,
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


def session(row: SessionRow) -> SessionOut:
    return SessionOut(
        id=row.id,
        title=row.title,
        model=row.model,
        system=row.system,
        metadata=row.metadata,
        status=row.status,
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
        last_seq=row.last_seq,
        usage=usage(row.spent.usage),
        cost=cost(row.spent),
    )


def turn(row: TurnRow) -> TurnOut:
    outcome = row.outcome
    spent = outcome.spent if outcome else Spent()
    error = None
    stop_reason = None
    if isinstance(outcome, TurnFailed):
        error = ErrorOut(code=outcome.error.code, message=outcome.error.message, retryable=outcome.error.retryable)
        stop_reason = "error"
    elif isinstance(outcome, TurnCompleted):
        stop_reason = outcome.stop_reason
    elif outcome is not None:
        stop_reason = "cancelled"
    return TurnOut.model_validate(
        {
            "id": row.id,
            "session_id": row.session_id,
            "status": row.status,
            "stop_reason": stop_reason,
            "error": error,
            "steps": outcome.steps if outcome else 0,
            "usage": usage(spent.usage),
            "cost": cost(spent),
            "created_at": rfc3339(row.created_at),
            "finished_at": None if row.finished_at is None else rfc3339(row.finished_at),
        }
    )


def model(info: ModelInfo) -> ModelOut:
    return ModelOut(
        id=info.id,
        name=info.name,
        context_length=info.context_length,
        prompt_usd=None if info.prompt_usd is None else str(info.prompt_usd),
        completion_usd=None if info.completion_usd is None else str(info.completion_usd),
    )
