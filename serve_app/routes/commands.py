"""POST /api/v1/sessions/{id}/exec: a person runs a command in the sandbox of a session."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive

from actors.core.errors import GreenroomError, InvalidInput
from actors.sandbox.base import ExecResult, OnOutput, Sandboxes
from actors.security.keys import Principal

from .. import present, sse
from ..answers import respond, wants_stream
from ..auth import Wired, Writer
from ..bodies import ExecRequest
from ..idempotency import IdempotencyKey
from ..running import ClientGone, followed
from ..schemas import ExecOut, errors
from ..services import Services
from .sessions import SessionId

router = APIRouter(prefix="/api/v1/sessions/{session_id}", tags=["workspace"])

EXAMPLE = """\
retry: 1000

event: output
data: {"type":"output","offset":0,"text":"42\\n"}

event: result
data: {"type":"result","verdict":"ok","exit_code":0,"output":"42\\n","truncated":false,"wall_s":0.012,"output_bytes":3,\
"cpu_s":0.009,"peak_memory_bytes":18874368,"variables":null}
"""

_CLIENT_GONE = 499
"""Nobody reads it; it is what the metrics count."""


@router.post(
    "/exec",
    response_model=ExecOut,
    responses={200: {"content": {sse.EVENT_STREAM: {"example": EXAMPLE}}}, **errors(400, 404, 413, 422, 503)},
)
async def run_in_sandbox(
    session_id: SessionId,
    body: ExecRequest,
    request: Request,
    services: Wired,
    principal: Writer,
    key: IdempotencyKey,
) -> Response:
    """Run a command, or a Python program, in the session's sandbox: beside the model, and as the policy allows.

    It is no turn: the model is not told, and a command whose client goes away is killed. One that was not allowed has
    the verdict `policy`. Commands of a sandbox run one after the other, so that this one may wait for the model's,
    within its own time. As a stream: `output` as it comes (of much output the beginning), and `result` at the end.

    A suspended user runs nothing. An `Idempotency-Key` is refused: nothing is kept of the answer, so a repeat would run
    a second time.
    """
    if key is not None:
        raise InvalidInput("a command cannot be repeated under an Idempotency-Key: it would run a second time")
    await services.costs.gauges.check(principal.user_id)
    run = _Run(services, principal, session_id, body, _timeout(services, body))
    if body.stream or wants_stream(request):
        await services.workspaces.check(session_id, principal.user_id)
        return sse.EventStream(run.frames(request.receive), write_s=services.settings.sse_write_s)
    try:
        return respond(present.executed(await run.result(request.receive)))
    except ClientGone:
        return Response(status_code=_CLIENT_GONE)


def _timeout(services: Services, body: ExecRequest) -> float:
    most = services.settings.sandbox_command_s
    if body.timeout_s is not None and body.timeout_s > most:
        raise InvalidInput(f"timeout_s: a command may run for {most:g} s at most")
    return body.timeout_s or most


class _Run:
    """One command of a request."""

    def __init__(
        self, services: Services, principal: Principal, session_id: str, body: ExecRequest, timeout_s: float
    ) -> None:
        self._services = services
        self._principal = principal
        self._session_id = session_id
        self._body = body
        self._timeout_s = timeout_s

    async def result(self, receive: Receive) -> ExecResult:
        async with aclosing(self._pieces(receive)) as pieces:
            async for piece in pieces:
                if isinstance(piece, ExecResult):
                    return piece
        raise AssertionError("a command has a result, or raises")

    async def frames(self, receive: Receive) -> AsyncGenerator[bytes]:
        yield sse.RETRY
        offset = 0
        try:
            async with aclosing(self._pieces(receive)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ExecResult):
                        yield _frame("result", present.executed(piece).model_dump())
                    elif piece:
                        yield _frame("output", {"offset": offset, "text": piece})
                        offset += len(piece)
                    else:
                        yield sse.PING
        except ClientGone:
            return
        except GreenroomError as error:
            yield sse.error_frame(error)

    async def _pieces(self, receive: Receive) -> AsyncGenerator[str | ExecResult]:
        services, principal = self._services, self._principal

        async def check() -> None:
            await services.workspaces.check(self._session_id, principal.user_id)

        opened = services.workspaces.opened(self._session_id, principal.user_id, key_id=principal.key_id)
        async with opened as sandboxes:
            running = followed(
                lambda on_output: self._start(sandboxes, on_output),
                receive=receive,
                check=check,
                heartbeat_s=services.settings.sse_heartbeat_s,
            )
            async with aclosing(running) as pieces:
                async for piece in pieces:
                    if isinstance(piece, ExecResult) and piece.verdict in ("cancelled", "sandbox_lost"):
                        await check()  # a deleted session is not found, which says more
                    yield piece

    async def _start(self, sandboxes: Sandboxes, on_output: OnOutput) -> ExecResult:
        body, timeout_s = self._body, self._timeout_s
        if body.command is not None:
            return await sandboxes.shell(self._session_id, body.command, timeout_s=timeout_s, on_output=on_output)
        return await sandboxes.python(
            self._session_id, body.python or "", timeout_s=timeout_s, on_output=on_output, keep=body.keep
        )


def _frame(kind: str, members: dict[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json({"type": kind, **members}))
