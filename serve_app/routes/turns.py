"""Turns: what became of one, and stopping it."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from .. import present
from ..answers import respond
from ..auth import Chatter, Reader, Wired
from ..schemas import SESSION_ID, TurnOut, errors

router = APIRouter(prefix="/api/v1/turns", tags=["turns"], responses=errors(404, 422))

TurnId = Annotated[str, Path(pattern=SESSION_ID)]


@router.get("/{turn_id}", response_model=TurnOut)
async def get_turn(turn_id: TurnId, services: Wired, principal: Reader) -> Response:
    return respond(present.turn(await services.book.turn(turn_id, principal.user_id)))


@router.post("/{turn_id}/cancel", response_model=TurnOut)
async def cancel_turn(turn_id: TurnId, services: Wired, principal: Chatter) -> Response:
    """Stop the model call and the tools of a turn. Answers when they have stopped, with what was spent.

    A turn that has ended stays as it ended: cancelling it again changes nothing.
    """
    row = await services.book.turn(turn_id, principal.user_id)
    if row.outcome is None:
        await services.sessions.cancel(row.session_id, principal.user_id, turn_id)
        row = await services.book.turn(turn_id, principal.user_id)
    return respond(present.turn(row))
