"""Approvals: tool calls that wait for a person."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from actors.agent.approval_book import ApprovalRow, ApprovalStatus
from actors.agent.orders import Resolve
from actors.core.errors import ApprovalNotPending, GreenroomError
from actors.core.events import Decision

from .. import present
from ..answers import respond
from ..auth import Approver, Reader, Wired
from ..bodies import SESSION_ID, DecisionRequest
from ..idempotency import IdempotencyKey
from ..schemas import ApprovalOut, ApprovalPage, errors

router = APIRouter(prefix="/api/v1/approvals", tags=["approvals"], responses=errors(404, 422))

ApprovalId = Annotated[str, Path(pattern=SESSION_ID)]

_MEANS: dict[ApprovalStatus, Decision] = {"approved": "approve", "denied": "deny"}


@router.get("", response_model=ApprovalPage)
async def list_approvals(
    services: Wired,
    principal: Reader,
    session_id: Annotated[str | None, Query(pattern=SESSION_ID, description="Of this session only.")] = None,
    status: Annotated[ApprovalStatus | None, Query(description="`pending`: nobody has decided yet.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(pattern=SESSION_ID, description="The last id of the page before.")] = None,
) -> Response:
    """What people are asked in your sessions, and what they decided, newest first."""
    if session_id is not None:
        await services.book.get(session_id, principal.user_id)
    rows, more = await services.approvals.page(
        principal.user_id, limit=limit, after=after, session_id=session_id, status=status
    )
    return respond(
        ApprovalPage(
            data=[present.approval(row) for row in rows],
            first_id=rows[0].id if rows else None,
            last_id=rows[-1].id if rows else None,
            has_more=more,
        )
    )


@router.get("/{approval_id}", response_model=ApprovalOut)
async def get_approval(approval_id: ApprovalId, services: Wired, principal: Reader) -> Response:
    return respond(present.approval(await services.approvals.get(approval_id, principal.user_id)))


@router.post("/{approval_id}", response_model=ApprovalOut, responses=errors(400, 409, 413, 503))
async def resolve_approval(
    approval_id: ApprovalId, body: DecisionRequest, services: Wired, principal: Approver, _key: IdempotencyKey
) -> Response:
    """Decide on a tool call that waits; its turn goes on.

    The same decision again changes nothing, with or without an `Idempotency-Key`; another one is 409
    `approval_not_pending`, as is any decision after it expired or its turn has ended.
    """
    row = await services.approvals.get(approval_id, principal.user_id)
    if row.status == "pending":
        order = Resolve(approval_id, body.decision, body.reason, principal.user_id)
        try:
            await services.sessions.control(row.session_id, principal.user_id, order)
        except GreenroomError:
            # Whatever was answered, or lost: the row says what holds.
            row = await services.approvals.get(approval_id, principal.user_id)
            if row.status == "pending":
                raise
        else:
            row = await services.approvals.get(approval_id, principal.user_id)
    _check(row, body.decision)
    return respond(present.approval(row))


def _check(row: ApprovalRow, decision: Decision) -> None:
    if _MEANS.get(row.status) != decision:
        raise ApprovalNotPending(
            f"it is {row.status} already", approval_id=row.id, session_id=row.session_id, turn_id=row.turn_id
        )
