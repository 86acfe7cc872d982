"""Sessions as resources: open, find, list and delete."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from actors.agent.book import SessionRow
from actors.core.errors import GreenroomError, SessionExists, SessionNotFound
from actors.core.events import SessionCreated
from actors.security.keys import Principal

from .. import present
from ..admission import check_model, check_tools
from ..answers import respond
from ..auth import Reader, Wired, Writer
from ..bodies import SESSION_ID, SessionRequest
from ..idempotency import IdempotencyKey, Identity, marked
from ..schemas import SessionOut, SessionPage, errors
from ..services import Services
from .turns import stop

router = APIRouter(
    prefix="/api/v1/sessions",
    tags=["sessions"],
    responses=errors(404, 422),
)

ROUTE = "POST /api/v1/sessions"

_STOP_S = 10.0
"""For which a deletion waits for its session's turn to stop."""

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


@router.post(
    "",
    status_code=201,
    response_model=SessionOut,
    responses={200: {"model": SessionOut, "description": "That id was yours already."}, **errors(400, 409, 413)},
)
async def create_session(body: SessionRequest, services: Wired, principal: Writer, key: IdempotencyKey) -> Response:
    """Open a session. With an `id` that is already yours it is found: 200, and nothing changes.

    Without an `id` an `Idempotency-Key` does it: the repeat gets the session that the first request opened, as
    it is now.
    """
    identity = Identity.of(key, principal, ROUTE, body, fresh=services.new_id)
    session_id = body.id or identity.new_id("sess")
    row = None if key is None else await find_session(services, session_id, principal)
    new = False
    if row is None:
        check_tools(services, body.approvals)
        await check_model(services, body.model)
        model = body.model or services.llm.default_model
        created = SessionCreated(principal.user_id, model, body.system, body.metadata, tuple(body.approvals))
        with deleted_is_gone(derived=key is not None and body.id is None):
            opening = services.book.open(session_id, principal.user_id, created, fingerprint=identity.fingerprint)
            row, new = await opening
    if not new and body.id is None:
        identity.check(row.fingerprint, session_id=row.id)
    replayed = key is not None and not new and row.fingerprint == identity.fingerprint
    headers = {"Location": f"/api/v1/sessions/{row.id}"}
    return marked(respond(present.session(row), 201 if new or replayed else 200, headers), replayed=replayed)


@router.get("/{session_id}", response_model=SessionOut)
async def get_session(session_id: SessionId, services: Wired, principal: Reader) -> Response:
    return respond(present.session(await services.book.get(session_id, principal.user_id)))


@router.delete("/{session_id}", status_code=204)
async def delete_session(session_id: SessionId, services: Wired, principal: Writer) -> Response:
    """Delete a session: its turn is stopped, its events and its workspace are gone. What it cost stays on the books."""
    try:
        await services.book.get(session_id, principal.user_id)
        await _stop_turn(services, session_id, principal)
        await services.book.delete(session_id, principal.user_id)
    except SessionNotFound:
        # The request that deleted it may have failed before its sandbox was released.
        if await services.book.was_deleted(session_id, principal.user_id):
            await services.sessions.forget(session_id)
        raise
    await services.sessions.forget(session_id)
    return Response(status_code=204)


async def _stop_turn(services: Services, session_id: str, principal: Principal) -> None:
    """Let the turn that runs write down what it cost. A turn that cannot be stopped does not keep a session."""
    turn = await services.book.begun_turn(session_id)
    if turn is None:
        return
    with suppress(GreenroomError, TimeoutError):
        async with asyncio.timeout(_STOP_S):
            await stop(services, turn, principal)


async def find_session(services: Services, session_id: str, principal: Principal) -> SessionRow | None:
    """The caller's session of that id, if there is one."""
    try:
        return await services.book.get(session_id, principal.user_id)
    except SessionNotFound:
        return None


@contextmanager
def deleted_is_gone(*, derived: bool) -> Generator[None]:
    """A session whose id only its Idempotency-Key can have made, and that is not found, was deleted."""
    try:
        yield
    except SessionExists as error:
        if not derived:
            raise
        gone = "the session that this Idempotency-Key made was deleted; use a new key for a new one"
        raise SessionNotFound(gone, **error.details) from None
