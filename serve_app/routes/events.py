"""The journal: of a session or of one turn, by pages or as a stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from actors.core.errors import CursorExpired
from actors.core.events import Event

from .. import sse
from ..answers import respond, wants_stream
from ..auth import Reader, Wired
from ..bodies import MAX_SEQ
from ..replay import turn_events
from ..schemas import EventPage, errors
from .sessions import SessionId
from .turns import TurnId

MAX_PAGE = 500

router = APIRouter(prefix="/api/v1", tags=["events"], responses=errors(404, 410, 422, 503))

After = Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Events numbered above this.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Events of one page.")]
LastEventId = Annotated[
    int | None, Header(ge=0, le=MAX_SEQ, description="As `after`, and before it: browsers send it when they reconnect.")
]

_STREAM = {"content": {sse.EVENT_STREAM: {"example": sse.EXAMPLE}}}


@router.get("/sessions/{session_id}/events", response_model=EventPage, responses={200: _STREAM})
async def session_events(
    session_id: SessionId,
    request: Request,
    services: Wired,
    principal: Reader,
    after: After = None,
    limit: Limit = 100,
    last_event_id: LastEventId = None,
) -> Response:
    """The session's journal as a page, or with `Accept: text/event-stream` as a stream that goes on over turns.

    Events are numbered from 1 without gaps. Previews (`message.delta`, `reasoning.delta`, `tool.progress`)
    come in streams only and carry no number. Where old events were trimmed the journal begins with
    `history.trimmed`; going on after an event amid those that are gone is 410 `cursor_expired` with `oldest_seq`.
    """
    start = last_event_id if last_event_id is not None else after or 0
    row = await services.book.get(session_id, principal.user_id)
    if wants_stream(request):
        if 0 < start < row.oldest_seq:
            raise CursorExpired(session_id=row.id, oldest_seq=row.oldest_seq)
        frames = sse.frames(
            services.sessions,
            session_id,
            principal.user_id,
            after=start,
            heartbeat_s=services.settings.sse_heartbeat_s,
        )
        return sse.EventStream(frames, write_s=services.settings.sse_write_s)
    found, more = await services.book.events(session_id, after=start, limit=limit)
    return _page(found, start, more=more)


@router.get(
    "/turns/{turn_id}/events",
    response_model=EventPage,
    responses={
        200: _STREAM,
        204: {"description": "A stream was asked for of a turn that has ended, after its last event."},
    },
)
async def turn_events_of(
    turn_id: TurnId,
    request: Request,
    services: Wired,
    principal: Reader,
    after: After = None,
    limit: Limit = 100,
    last_event_id: LastEventId = None,
) -> Response:
    """The events of one turn as a page, or with `Accept: text/event-stream` as a stream that ends with the turn.

    They keep their numbers in the session, and begin with `message.accepted`. Browsers reconnect to a stream that
    has ended; the answer 204 to that tells them to stop.
    """
    start = last_event_id if last_event_id is not None else after or 0
    row = await services.book.turn(turn_id, principal.user_id)
    if not wants_stream(request):
        found: list[Event] = []
        async for event in turn_events(services.book, row, after=start):
            if len(found) == limit:
                return _page(found, start, more=True)
            found.append(event)
        return _page(found, start, more=False)
    if row.outcome is None:
        frames = sse.frames(
            services.sessions,
            row.session_id,
            principal.user_id,
            after=max(start, row.accepted_seq - 1),
            turn_id=row.id,
            heartbeat_s=services.settings.sse_heartbeat_s,
        )
    else:
        left = turn_events(services.book, row, after=start)
        first = await anext(left, None)
        if first is None:
            return Response(status_code=204)
        frames = sse.recorded(_chained(first, left))
    return sse.EventStream(frames, write_s=services.settings.sse_write_s)


async def _chained(first: Event, rest: AsyncIterator[Event]) -> AsyncGenerator[Event]:
    yield first
    async for event in rest:
        yield event


def _page(found: Sequence[Event], start: int, *, more: bool) -> Response:
    last_seq = found[-1].seq if found else start
    return respond(EventPage(data=[event.wire() for event in found], last_seq=last_seq, has_more=more))
