"""POST /api/v1/sessions/{id}/fork: a session that begins with the past of another."""

from fastapi import APIRouter
from starlette.responses import Response

from actors.agent.book import SessionRow
from actors.core.errors import CursorExpired, GreenroomError, InvalidInput, StoreUnavailable
from actors.sandbox.base import CopyResult, WorkspaceError
from actors.security.keys import Principal

from .. import present
from ..answers import respond
from ..auth import Wired, Writer
from ..bodies import ForkRequest
from ..idempotency import IdempotencyKey, Identity, marked
from ..schemas import ForkOut, errors
from ..services import Services
from .sessions import SessionId, deleted_is_gone, find_session

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])

ROUTE = "POST /api/v1/sessions/{session_id}/fork"


@router.post(
    "/{session_id}/fork", status_code=201, response_model=ForkOut, responses=errors(400, 404, 410, 413, 422, 503)
)
async def fork_session(
    session_id: SessionId,
    services: Wired,
    principal: Writer,
    key: IdempotencyKey,
    body: ForkRequest | None = None,
) -> Response:
    """Make a session whose past is this one's up to an event, and which goes its own way from there.

    A turn that had not ended at that event ends there in the copy, as cancelled; messages that waited are left out.
    What the turns cost stays with the session that paid for it. Files of the workspace are copied as they are now,
    not as they were at that event.
    """
    body = body or ForkRequest()
    identity = Identity.of(key, principal, ROUTE, body, fresh=services.new_id, session_id=session_id)
    # Held before anything is copied: of two sessions under one key only one may fill the workspace of the third.
    with services.underway.hold(identity):
        row, copied, new = await _once(services, principal, session_id, body, identity)
    headers = {"Location": f"/api/v1/sessions/{row.id}"}
    return marked(respond(present.fork(row, copied), 201, headers), replayed=not new)


async def _once(
    services: Services, principal: Principal, session_id: str, body: ForkRequest, identity: Identity
) -> tuple[SessionRow, CopyResult | None, bool]:
    """The fork, what was copied into it, and whether this request made it."""
    target = identity.new_id("sess")
    row = await find_session(services, target, principal) if identity.fingerprint else None
    new, copied = False, None
    if row is None:
        source = await services.book.get(session_id, principal.user_id)
        from_seq = _cut(source, body.from_event)
        if "workspace" in body.include:
            copied = await _copy(services, source.id, target)
        row, new = await _fork(services, source, target, from_seq=from_seq, fingerprint=identity.fingerprint)
    if not new:
        identity.check(row.fingerprint, session_id=row.id)
    return row, copied if new else None, new


def _cut(source: SessionRow, from_event: int | None) -> int:
    seq = source.last_seq if from_event is None else from_event
    if seq > source.last_seq:
        raise InvalidInput(f"from_event: there is no event {seq}; the newest is {source.last_seq}")
    if seq < source.oldest_seq:
        raise CursorExpired(session_id=source.id, oldest_seq=source.oldest_seq)
    return seq


async def _copy(services: Services, source: str, target: str) -> CopyResult:
    try:
        return await services.sandboxes.copy(source, target)
    except WorkspaceError as error:
        await services.sandboxes.release(target)
        raise InvalidInput(f"the workspace cannot be copied: {error}; leave it out of `include`") from None
    except GreenroomError:
        await services.sandboxes.release(target)
        raise


async def _fork(
    services: Services, source: SessionRow, target: str, *, from_seq: int, fingerprint: str | None
) -> tuple[SessionRow, bool]:
    try:
        with deleted_is_gone(derived=fingerprint is not None):
            return await services.book.fork(
                source, target, from_seq=from_seq, new_id=services.new_id, fingerprint=fingerprint
            )
    except StoreUnavailable:
        # The session may be there or not. Its workspace is kept for it: one without a session ends when it is idle.
        raise
    except GreenroomError:
        await services.sandboxes.release(target)
        raise
