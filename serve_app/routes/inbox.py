"""Messages to a session that nobody waits for, and the inbox: those whose turns have not begun."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from actors.agent.book import TurnRow
from actors.agent.orders import Edit, Withdraw
from actors.agent.sessions import Submit
from actors.core.errors import GreenroomError, MessageNotFound, MessageNotWaiting
from actors.core.events import TurnCancelled

from .. import present
from ..admission import check_model, check_size
from ..answers import respond
from ..auth import Chatter, Reader, Wired, payer_of
from ..bodies import SESSION_ID, EditRequest, MessageRequest
from ..idempotency import IdempotencyKey, Identity, marked
from ..replay import message_of
from ..schemas import Accepted, InboxEntry, InboxList, errors
from ..services import Services
from .chat import respond_later
from .sessions import SessionId

router = APIRouter(prefix="/api/v1/sessions/{session_id}", tags=["inbox"], responses=errors(404, 422))

ROUTE = "POST /api/v1/sessions/{session_id}/messages"

MessageId = Annotated[str, Path(pattern=SESSION_ID)]


@router.post("/messages", status_code=202, response_model=Accepted, responses=errors(400, 402, 409, 413, 429, 503))
async def send_message(
    session_id: SessionId, body: MessageRequest, services: Wired, principal: Chatter, key: IdempotencyKey
) -> Response:
    """Send a message to a session, and do not wait: its turn is at `Location`, its events are the session's.

    The answer says that the message is in the journal. With an `Idempotency-Key` it may be sent again.
    """
    check_size(services, body.message)
    identity = Identity.of(key, principal, ROUTE, body, fresh=services.new_id, session_id=session_id)
    command = Submit(
        session_id=session_id,
        user_id=principal.user_id,
        message_id=identity.new_id("msg"),
        turn_id=identity.new_id("turn"),
        content=body.message,
        model=body.model,
        on_busy=body.on_busy,
        fingerprint=identity.fingerprint,
        payer=payer_of(principal, services),
    )
    with services.underway.hold(identity):
        earlier = await identity.earlier_turn(services.book, principal.user_id)
        if earlier is None:
            await check_model(services, body.model)
        response = await respond_later(services, command, earlier)
    return marked(response, replayed=earlier is not None)


@router.get("/inbox", response_model=InboxList, responses=errors(503))
async def list_inbox(session_id: SessionId, services: Wired, principal: Reader) -> Response:
    """Messages whose turns have not begun, in the order in which they will."""
    await services.book.get(session_id, principal.user_id)
    waiting = await services.sessions.inbox(session_id, principal.user_id)
    return respond(InboxList(data=[present.inbox_entry(entry) for entry in waiting]))


@router.patch("/inbox/{message_id}", response_model=InboxEntry, responses=errors(400, 409, 413, 503))
async def edit_message(
    session_id: SessionId, message_id: MessageId, body: EditRequest, services: Wired, principal: Chatter
) -> Response:
    """Change what a message says whose turn has not begun. Asking for the same again changes nothing."""
    check_size(services, body.message)
    await services.book.get(session_id, principal.user_id)
    try:
        await services.sessions.control(session_id, principal.user_id, Edit(message_id, body.message))
    except (MessageNotFound, MessageNotWaiting) as error:
        row = await _begun(services, session_id, message_id, error)
        if (await message_of(services.book, row)).content != body.message:
            raise MessageNotWaiting(session_id=session_id, message_id=message_id, turn_id=row.id) from None
    for entry in await services.sessions.inbox(session_id, principal.user_id):
        if entry.message_id == message_id:
            return respond(present.inbox_entry(entry))
    # Its turn began before this answer was written.
    row = await _begun(services, session_id, message_id, MessageNotFound(session_id=session_id, message_id=message_id))
    return respond(present.begun_entry(row, await message_of(services.book, row)))


@router.delete("/inbox/{message_id}", status_code=204, responses=errors(409, 503))
async def withdraw_message(
    session_id: SessionId, message_id: MessageId, services: Wired, principal: Chatter
) -> Response:
    """Take a message back whose turn has not begun. Doing it again is fine."""
    await services.book.get(session_id, principal.user_id)
    try:
        await services.sessions.control(session_id, principal.user_id, Withdraw(message_id))
    except (MessageNotFound, MessageNotWaiting) as error:
        row = await _begun(services, session_id, message_id, error)
        if not isinstance(row.outcome, TurnCancelled) or row.outcome.steps > 0:
            raise MessageNotWaiting(session_id=session_id, message_id=message_id, turn_id=row.id) from None
    return Response(status_code=204)


async def _begun(services: Services, session_id: str, message_id: str, error: GreenroomError) -> TurnRow:
    """The turn of a message that no longer waits. A session knows its newest messages only, the journal all."""
    row = await services.book.turn_of_message(session_id, message_id)
    if row is None:
        raise error
    return row
