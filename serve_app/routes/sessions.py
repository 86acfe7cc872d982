"""Sessions and their events."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from actors.core.events import SessionCreated

from .. import present, sse
from ..answers import respond, wants_stream
from ..auth import Reader, Wired, Writer
from ..schemas import SESSION_ID, EventPage, SessionOut, SessionPage, SessionRequest, errors
from .chat import check_model

MAX_PAGE = 500
MAX_SEQ = 2**63 - 1
"""What the databases' integers hold."""

router = APIRouter(
    prefix="/api/v1/sessions",
    tags=["sessions"],
    responses=errors(404, 422),
)

SessionId = Annotated[str, Path(pattern=SESSION_ID)]


@router.get("", response_model=SessionPage)
async def list_sessions(
    services: Wired,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(pattern=SESSION_ID, description="The last id of the page before.")] = None,
) -> Response:
    """Your sessions, newest first."""
    rows, more = await services.book.page(principal.user_id, limit=limit, after=after)
    return respond(
        SessionPage(
            data=[present.session(row) for row in rows],
            first_id=rows[0].id if rows else None,
            last_id=rows[-1].id if rows else None,
            has_more=more,
        )
    )


@router.post("", status_code=201, response_model=SessionOut, responses=errors(400, 409, 413))
async def create_session(body: SessionRequest, services: Wired, principal: Writer) -> Response:
    """Open a session. With an `id` that is already yours it is found: 200, and nothing changes."""
    if body.model is not None:
        await check_model(services, body.model)
    model = body.model or services.llm.default_model
    created = SessionCreated(principal.user_id, model, body.system, body.metadata)
    row, new = await services.book.open(body.id or services.new_id("sess"), principal.user_id, created)
    headers = {"Location": f"/api/v1/sessions/{row.id}"}
    return respond(present.session(row), 201 if new else 200, headers)


@router.get("/{session_id}", response_model=SessionOut)
async def get_session(session_id: SessionId, services: Wired, principal: Reader) -> Response:
    return respond(present.session(await services.book.get(session_id, principal.user_id)))


@router.delete("/{session_id}", status_code=204)
async def delete_session(session_id: SessionId, services: Wired, principal: Writer) -> Response:
    """Delete a session: its turn is stopped, its events and its workspace are gone. What it cost stays on the books."""
    await services.book.delete(session_id, principal.user_id)
    await services.sessions.forget(session_id)
    return Response(status_code=204)


@router.get(
    "/{session_id}/events",
    response_model=EventPage,
    responses={200: {"content": {sse.EVENT_STREAM: {"example": sse.EXAMPLE}}}},
)
async def events(
    session_id: SessionId,
    request: Request,
    services: Wired,
    principal: Reader,
    after: Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Events numbered above this.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Events of one page.")] = 100,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_SEQ)] = None,
) -> Response:
    """The session's journal as a page, or with `Accept: text/event-stream` as a stream that goes on.

    Events are numbered from 1 without gaps. Previews (`message.delta`, `reasoning.delta`, `tool.progress`)
    come in streams only and carry no number.
    """
    start = last_event_id if last_event_id is not None else after or 0
    await services.book.get(session_id, principal.user_id)
    if wants_stream(request):
        frames = sse.frames(
            services.sessions,
            session_id,
            principal.user_id,
            after=start,
            heartbeat_s=services.settings.sse_heartbeat_s,
        )
        return StreamingResponse(frames, headers=sse.HEADERS, media_type=sse.EVENT_STREAM)
    found, more = await services.book.events(session_id, after=start, limit=limit)
    return respond(
        EventPage(data=[event.wire() for event in found], last_seq=found[-1].seq if found else start, has_more=more)
    )
