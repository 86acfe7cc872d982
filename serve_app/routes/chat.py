"""POST /api/v1/chat: say something, and get the answer as JSON, as a stream, or later."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse

from actors.agent.sessions import NewSession, Receipt, Submit, TurnResult
from actors.core.errors import MessageTooLarge, UnavailableError, UnknownModel
from actors.security.keys import Principal

from .. import present, sse
from ..answers import respond, wants_stream
from ..auth import Chatter, Wired
from ..problems import problem
from ..replay import ended_turn
from ..schemas import Accepted, ChatRequest, ChatResponse, errors
from ..services import Services

router = APIRouter(prefix="/api/v1", tags=["chat"])

RESPOND_ASYNC = "respond-async"


@router.post(
    "/chat",
    response_model=ChatResponse,
    responses={
        200: {"content": {sse.EVENT_STREAM: {"example": sse.EXAMPLE}}},
        202: {"model": Accepted, "description": "`Prefer: respond-async`, or the turn takes long: follow its events."},
        **errors(400, 404, 413, 422, 502, 503),
    },
)
async def chat(
    body: ChatRequest,
    request: Request,
    services: Wired,
    principal: Chatter,
    prefer: Annotated[str | None, Header(description="`respond-async`: 202 as soon as it is accepted.")] = None,
) -> Response:
    """Send a message. Without `session_id` it opens a session.

    The turn belongs to the session and not to this request: a client that goes away does not stop it.
    """
    command = await _command(body, services, principal)
    if body.stream or wants_stream(request):
        return await _stream(command, services)
    if prefer is not None and RESPOND_ASYNC in prefer:
        return _later(await services.sessions.submit(command))
    result = await services.sessions.chat(command, wait_s=services.settings.chat_wait_s)
    if isinstance(result, Receipt):
        # The turn is long, or it ended under another host while we waited: the journal knows.
        ended = await ended_turn(services.book, services.sessions, result, principal.user_id)
        if ended is None:
            return _later(result)
        result = ended
    return _answer(request, result)


def _answer(request: Request, result: TurnResult) -> Response:
    if result.error is None:
        return respond(present.chat(result))
    return problem(
        request.scope["request_id"],
        request.url.path,
        code=result.error.code,
        detail=result.error.message,
        retryable=result.error.retryable,
        members={"session_id": result.session_id, "turn_id": result.turn_id},
    )


def _later(receipt: Receipt) -> Response:
    return respond(present.accepted(receipt), 202, {"Location": f"/api/v1/turns/{receipt.turn_id}"})


async def _stream(command: Submit, services: Services) -> Response:
    receipt = await services.sessions.submit(command)
    frames = sse.frames(
        services.sessions,
        receipt.session_id,
        command.user_id,
        after=receipt.seq - 1,
        turn_id=receipt.turn_id,
        heartbeat_s=services.settings.sse_heartbeat_s,
    )
    headers = {**sse.HEADERS, "X-Session-Id": receipt.session_id, "X-Turn-Id": receipt.turn_id}
    return StreamingResponse(frames, headers=headers, media_type=sse.EVENT_STREAM)


async def _command(body: ChatRequest, services: Services, principal: Principal) -> Submit:
    size, limit = len(body.message.encode()), services.settings.message_max_bytes
    if size > limit:
        raise MessageTooLarge(f"the message has {size:,} bytes; at most {limit:,} are taken", limit_bytes=limit)
    if body.model is not None:
        await check_model(services, body.model)
    new = None
    if body.session_id is None:
        new = NewSession(body.model or services.llm.default_model, body.system, body.metadata)
    return Submit(
        session_id=body.session_id or services.new_id("sess"),
        user_id=principal.user_id,
        message_id=services.new_id("msg"),
        turn_id=services.new_id("turn"),
        content=body.message,
        model=body.model,
        new=new,
    )


async def check_model(services: Services, model: str) -> None:
    """Raises `UnknownModel` when the list of models is known and this one is not in it."""
    try:
        known = {info.id for info in await services.llm.models()}
    except UnavailableError:
        return  # the turn itself will say what the model server says
    if known and model not in known:
        raise UnknownModel(f"there is no model {model!r}; GET /api/v1/models lists them", model=model)
