"""POST /api/v1/chat: say something, and get the answer as JSON, as a stream, or later."""

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from actors.agent.book import TurnRow
from actors.agent.sessions import NewSession, Receipt, Submit, TurnResult
from actors.security.keys import Principal

from .. import present, sse
from ..admission import check_model, check_size, check_tools
from ..answers import respond, wants_stream
from ..auth import Chatter, Wired, payer_of
from ..bodies import ChatRequest
from ..idempotency import IdempotencyKey, Identity, marked
from ..problems import problem
from ..replay import ended_turn, turn_events
from ..schemas import Accepted, ChatResponse, Unfinished, errors
from ..services import Services

router = APIRouter(prefix="/api/v1", tags=["chat"])

ROUTE = "POST /api/v1/chat"
RESPOND_ASYNC = "respond-async"


@router.post(
    "/chat",
    response_model=ChatResponse,
    responses={
        200: {"content": {sse.EVENT_STREAM: {"example": sse.EXAMPLE}}},
        202: {
            "model": Unfinished | Accepted,
            "description": (
                "`Prefer: respond-async`; or the turn takes long, waits for an approval, or its session is paused: "
                "follow its events."
            ),
        },
        **errors(400, 402, 404, 409, 413, 422, 429, 502, 503),
    },
)
async def chat(
    body: ChatRequest,
    request: Request,
    services: Wired,
    principal: Chatter,
    key: IdempotencyKey,
    prefer: Annotated[str | None, Header(description="`respond-async`: 202 as soon as it is accepted.")] = None,
) -> Response:
    """Send a message. Without `session_id` it opens a session.

    The turn belongs to the session and not to this request: a client that goes away does not stop it.

    With an `Idempotency-Key` the request may be sent again: there is one turn, and the repeat waits for it,
    follows it, or gets its answer, a failure included. `stream` and `Prefer` may differ between the repeats.
    """
    check_size(services, body.message)
    identity = Identity.of(key, principal, ROUTE, body, fresh=services.new_id)
    command = _command(body, services, principal, identity)
    with services.underway.hold(identity):
        earlier = await identity.earlier_turn(services.book, principal.user_id)
        if earlier is None:
            check_tools(services, body.approvals)
            await check_model(services, body.model)
        if body.stream or wants_stream(request):
            response = await _stream(services, command, earlier)
        elif prefer is not None and RESPOND_ASYNC in prefer:
            response = await respond_later(services, command, earlier)
        else:
            response = await _whole(request, services, command, earlier)
    return marked(response, replayed=earlier is not None)


def _command(body: ChatRequest, services: Services, principal: Principal, identity: Identity) -> Submit:
    new = None
    if body.session_id is None:
        model = body.model or services.llm.default_model
        new = NewSession(model, body.system, body.metadata, tuple(body.approvals))
    return Submit(
        session_id=body.session_id or identity.new_id("sess"),
        user_id=principal.user_id,
        message_id=identity.new_id("msg"),
        turn_id=identity.new_id("turn"),
        content=body.message,
        model=body.model,
        new=new,
        on_busy=body.on_busy,
        fingerprint=identity.fingerprint,
        payer=payer_of(principal, services),
    )


async def _whole(request: Request, services: Services, command: Submit, earlier: TurnRow | None) -> Response:
    row = earlier
    if row is None or row.outcome is None:
        result = await services.sessions.chat(command, wait_s=services.settings.chat_wait_s)
        if isinstance(result, TurnResult):
            return _answer(request, result)
        # The turn is not over, or it ended under another host while we waited: the journal knows.
        row = await services.book.turn(result.turn_id, command.user_id)
        if row.outcome is None:
            return await _unfinished(services, command.user_id, result, row)
    return _answer(request, await ended_turn(services.book, row))


def _answer(request: Request, result: TurnResult) -> Response:
    if result.error is None:
        return respond(present.chat(result))
    return problem(
        request.scope["request_id"],
        request.url.path,
        code=result.error.code,
        detail=result.error.message,
        retryable=result.error.retryable,
        members={**result.error.details, "session_id": result.session_id, "turn_id": result.turn_id},
    )


async def _unfinished(services: Services, user_id: str, receipt: Receipt, row: TurnRow) -> Response:
    asked, _ = await services.approvals.page(
        user_id, limit=100, after=None, session_id=receipt.session_id, status="pending"
    )
    body = present.unfinished(receipt, row, [approval.id for approval in asked])
    return respond(body, 202, {"Location": f"/api/v1/turns/{receipt.turn_id}"})


async def respond_later(services: Services, command: Submit, earlier: TurnRow | None) -> Response:
    """Accept the message, or see that it was accepted before, and tell where its turn is to be found."""
    if earlier is not None and earlier.outcome is not None:
        receipt = Receipt(earlier.session_id, earlier.id, earlier.message_id, earlier.accepted_seq, 0)
    else:
        receipt = await services.sessions.submit(command)
    return respond(present.accepted(receipt), 202, {"Location": f"/api/v1/turns/{receipt.turn_id}"})


async def _stream(services: Services, command: Submit, earlier: TurnRow | None) -> Response:
    settings = services.settings
    if earlier is not None and earlier.outcome is not None:
        session_id, turn_id = earlier.session_id, earlier.id
        frames = sse.recorded(turn_events(services.book, earlier))
    else:
        receipt = await services.sessions.submit(command)
        session_id, turn_id = receipt.session_id, receipt.turn_id
        frames = sse.frames(
            services.sessions,
            session_id,
            command.user_id,
            after=receipt.seq - 1,
            turn_id=turn_id,
            heartbeat_s=settings.sse_heartbeat_s,
        )
    headers = {"X-Session-Id": session_id, "X-Turn-Id": turn_id}
    return sse.EventStream(frames, write_s=settings.sse_write_s, headers=headers)
