"""Turns: what became of one, and stopping it."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from actors.agent.book import TurnRow
from actors.core.errors import UnavailableError
from actors.security.keys import Principal

from .. import present
from ..answers import respond
from ..auth import Chatter, Reader, Wired
from ..bodies import SESSION_ID
from ..idempotency import IdempotencyKey
from ..schemas import TurnOut, errors
from ..services import Services

router = APIRouter(prefix="/api/v1/turns", tags=["turns"], responses=errors(404, 422))

TurnId = Annotated[str, Path(pattern=SESSION_ID)]


@router.get("/{turn_id}", response_model=TurnOut)
async def get_turn(turn_id: TurnId, services: Wired, principal: Reader) -> Response:
    return respond(present.turn(await services.book.turn(turn_id, principal.user_id)))


@router.post("/{turn_id}/cancel", response_model=TurnOut, responses=errors(503))
async def cancel_turn(turn_id: TurnId, services: Wired, principal: Chatter, _key: IdempotencyKey) -> Response:
    """Stop the model call and the tools of a turn. Answers when they have stopped, with what was stopped and spent.

    A turn that has ended stays as it ended: cancelling it again changes nothing, with or without an
    `Idempotency-Key`. No body is needed.
    """
    row = await services.book.turn(turn_id, principal.user_id)
    return respond(present.turn(await stop(services, row, principal)))


async def stop(services: Services, row: TurnRow, principal: Principal) -> TurnRow:
    """The turn, ended. Raises `UnavailableError` when it has not stopped in time."""
    if row.outcome is None:
        await services.sessions.cancel(row.session_id, principal.user_id, row.id)
        row = await services.book.turn(row.id, principal.user_id)
    if row.outcome is None:
        raise UnavailableError("the turn has not stopped yet; cancel it again", turn_id=row.id)
    return row
