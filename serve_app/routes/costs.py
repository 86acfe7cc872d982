"""What was spent, on what and when; and what a message would cost."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from actors.agent.cost_reports import Asked
from actors.agent.estimates import Question
from actors.core.errors import Forbidden
from actors.ledger.costs import GroupBy
from actors.ledger.periods import Period
from actors.security.keys import ADMIN, Principal

from .. import cost_export, cost_present
from ..admission import check_model, check_size
from ..answers import respond
from ..auth import Chatter, Reader, Wired
from ..bodies import EstimateRequest
from ..cost_schemas import CostReportOut, EstimateOut
from ..idempotency import IdempotencyKey
from ..schemas import errors

router = APIRouter(prefix="/api/v1", tags=["costs"])

_FILES = {media: {"schema": {"type": "string", "format": "binary"}} for media in cost_export.MEDIA.values()}


@router.get(
    "/costs",
    response_model=CostReportOut,
    responses={200: {"content": _FILES}, **errors(422, 503)},
)
async def get_costs(
    services: Wired,
    principal: Reader,
    *,
    period: Annotated[Period, Query(description="How long the periods of `series` are.")] = "daily",
    group_by: Annotated[GroupBy, Query(description="What `data` has a row for.")] = "model",
    since: Annotated[
        datetime | None,
        Query(alias="from", description="A day or a moment; by default 30 days, 12 weeks or 12 months back."),
    ] = None,
    until: Annotated[datetime | None, Query(alias="to", description="The end, not included; by default now.")] = None,
    everyone: Annotated[
        bool | None,
        Query(description="Over all users, which needs the scope `admin`; its default with `group_by=user`."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Groups that are told by name, the dearest first.")] = 20,
    recommendations: Annotated[bool, Query(description="Say what would have cost less.")] = True,
    format: Annotated[
        Literal["json", "csv", "parquet"], Query(description="CSV and Parquet hold `series`, a line for each group.")
    ] = "json",
) -> Response:
    """Your costs by model, tool, session or user, in all and for each day, week or month (UTC).

    Rows of `data` sum up to `totals`, and so do those of `series`. Costs that nobody knows are counted apart and never
    as 0. The scope `admin` sees those of all users.
    """
    asked = Asked(
        user_id=None if _is_everyone(principal, group_by, everyone) else principal.user_id,
        period=period,
        group_by=group_by,
        since=_utc(since),
        until=_utc(until),
        limit=limit,
        advice=recommendations and format == "json",
    )
    made = await services.costs.report(asked)
    if format == "json":
        return respond(cost_present.report(made))
    content = await asyncio.to_thread(cost_export.exported, made, format)
    name = cost_export.file_name(made, format)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, headers=headers, media_type=cost_export.MEDIA[format])


@router.post("/estimate", response_model=EstimateOut, responses=errors(400, 402, 404, 413, 422, 503))
async def estimate(body: EstimateRequest, services: Wired, principal: Chatter, _key: IdempotencyKey) -> Response:
    """What the first model call of a message costs at most and probably, and whether your budgets have room for it.

    Sends nothing and holds nothing. A turn that uses tools makes further calls.
    """
    check_size(services, body.message)
    await check_model(services, body.model)
    question = Question(
        principal.user_id, body.message, body.session_id, body.model, body.system, body.max_completion_tokens
    )
    return respond(cost_present.estimate(await services.costs.estimates.of(question)))


def _is_everyone(principal: Principal, group_by: GroupBy, everyone: bool | None) -> bool:
    is_operator = ADMIN in principal.scopes
    if everyone and not is_operator:
        raise Forbidden(f"the costs of other users need the scope {ADMIN}")
    return is_operator and group_by == "user" if everyone is None else everyone


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
