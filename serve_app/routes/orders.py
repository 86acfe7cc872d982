"""What people tell a session to do: pause, go on, drop what it is doing. Each may be told again."""

from fastapi import APIRouter
from starlette.responses import Response

from actors.agent.orders import Order, Pause, Resume
from actors.security.keys import Principal

from .. import present
from ..answers import respond
from ..auth import Chatter, Wired
from ..idempotency import IdempotencyKey
from ..schemas import SessionOut, errors
from ..services import Services
from .sessions import SessionId
from .turns import stop

router = APIRouter(prefix="/api/v1/sessions/{session_id}", tags=["sessions"], responses=errors(404, 422, 503))


@router.post("/pause", response_model=SessionOut)
async def pause_session(session_id: SessionId, services: Wired, principal: Chatter, _key: IdempotencyKey) -> Response:
    """Begin no further step: the model call or the tool that runs ends, and the turn waits there. Messages are taken.

    Pausing again changes nothing, with or without an `Idempotency-Key`.
    """
    return await _ordered(session_id, Pause(), services, principal)


@router.post("/resume", response_model=SessionOut)
async def resume_session(session_id: SessionId, services: Wired, principal: Chatter, _key: IdempotencyKey) -> Response:
    """Go on where the session was paused. One that is not paused stays as it is."""
    return await _ordered(session_id, Resume(), services, principal)


@router.post("/interrupt", response_model=SessionOut)
async def interrupt_session(
    session_id: SessionId, services: Wired, principal: Chatter, _key: IdempotencyKey
) -> Response:
    """Cancel the turn that was begun, if there is one, and answer when it has stopped. Messages that wait go on."""
    row = await services.book.get(session_id, principal.user_id)
    if (turn := await services.book.begun_turn(row.id)) is not None:
        await stop(services, turn, principal)
    return respond(present.session(await services.book.get(session_id, principal.user_id)))


async def _ordered(session_id: str, order: Order, services: Services, principal: Principal) -> Response:
    await services.book.get(session_id, principal.user_id)
    await services.sessions.control(session_id, principal.user_id, order)
    return respond(present.session(await services.book.get(session_id, principal.user_id)))
