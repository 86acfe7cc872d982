"""Files of a session's workspace: list, read, write and remove them, beside the model and as the policy allows."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Annotated, Any, TypeAlias

import structlog
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from actors.core.errors import (
    FileTooLarge,
    GreenroomError,
    InvalidInput,
    NoSuchFile,
    PolicyRefusal,
    RangeNotSatisfiable,
    WorkspaceConflict,
)
from actors.sandbox.base import FileStat, PolicyRefused, Sandboxes, WorkspaceError
from actors.security.keys import Principal

from .. import present
from ..answers import respond
from ..auth import Reader, Wired, Writer
from ..downloads import Span, headers_of, span_of
from ..file_paths import check_encoding, check_folder, check_path
from ..problems import BodyTooLarge, problem
from ..schemas import FileList, errors
from ..services import Services
from .sessions import SessionId

MAX_LISTED = 1000
PIECE_BYTES = 1024 * 1024
"""A file is read in pieces of this size, so that a replica holds none of it as a whole."""
UPLOAD_S = 300.0

router = APIRouter(
    prefix="/api/v1/sessions/{session_id}", tags=["workspace"], responses=errors(400, 404, 409, 422, 503)
)
_log = structlog.stdlib.get_logger("greenroom.files")


def _checked(
    request: Request,
    path: Annotated[
        str, Path(description="Relative to the workspace; percent-encoded UTF-8.", examples=["data/table.csv"])
    ],
) -> str:
    check_encoding(request.scope)
    return check_path(path)


FilePath: TypeAlias = Annotated[str, Depends(_checked)]
Range: TypeAlias = Annotated[
    str | None, Header(description="One range of bytes; of several the whole file is sent.", examples=["bytes=0-1023"])
]
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_READ: dict[int | str, dict[str, Any]] = {
    200: {**_BYTES, "description": "The file. Its type is by its name; only pictures and plain text are `inline`."},
    206: {**_BYTES, "description": "The part that `Range` asked for."},
    **errors(416),
}


@router.get("/files", response_model=FileList)
async def list_files(
    session_id: SessionId,
    services: Wired,
    principal: Reader,
    path: Annotated[str, Query(description="A folder; by default the whole workspace.", examples=["data"])] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="Files and folders, at most.")] = 200,
) -> Response:
    """Files and folders of the workspace with all that is below, depth first. What the policy hides is left out."""
    folder = check_folder(path)
    async with _opened(services, session_id, principal) as sandboxes:
        with _border(NoSuchFile):
            found = await sandboxes.list(session_id, folder, max_entries=limit + 1)
    truncated = found.cut or len(found) > limit
    return respond(FileList(data=[present.file(info) for info in found[:limit]], truncated=truncated))


@router.get("/files/{path:file}", response_class=Response, responses=_READ)
async def read_file(
    session_id: SessionId,
    path: FilePath,
    request: Request,
    services: Wired,
    principal: Reader,
    range_: Annotated[Range, Header(alias="Range")] = None,
) -> Response:
    """The bytes of a file, or a part of them. Never of a type that a browser would run."""
    async with _opened(services, session_id, principal) as sandboxes:
        found = await _file(sandboxes, session_id, path)
        try:
            span = span_of(None if "if-range" in request.headers else range_, found.size_bytes)
        except RangeNotSatisfiable as error:
            return _no_such_range(request, error, found.size_bytes)
        with _border(NoSuchFile):
            first = await sandboxes.read(session_id, path, offset=span.start, max_bytes=min(span.length, PIECE_BYTES))
    status, headers = 206 if span.partial else 200, headers_of(path, span)
    if len(first.data) == span.length:
        return Response(first.data, status, headers)
    return StreamingResponse(_pieces(services, principal, session_id, path, span, first.data), status, headers)


@router.head("/files/{path:file}", response_class=Response, responses={200: {"description": "As `GET`, but no bytes."}})
async def stat_file(session_id: SessionId, path: FilePath, services: Wired, principal: Reader) -> Response:
    """What `GET` would answer, without the file: its size and type."""
    async with _opened(services, session_id, principal) as sandboxes:
        found = await _file(sandboxes, session_id, path)
    return Response(headers=headers_of(path, Span(0, found.size_bytes, found.size_bytes)))


@router.put(
    "/files/{path:file}",
    status_code=204,
    response_class=Response,
    responses={
        201: {"description": "The file is new."},
        204: {"description": "It was there, and has been replaced."},
        **errors(413),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def write_file(
    session_id: SessionId, path: FilePath, request: Request, services: Wired, principal: Writer
) -> Response:
    """Write a file: the body as it is, of any type. Folders above it are made. Readers see the old file or the new."""
    async with AsyncExitStack() as held:
        sandboxes = await held.enter_async_context(_opened(services, session_id, principal))
        if int(request.headers.get("content-length") or PIECE_BYTES + 1) > PIECE_BYTES:
            await held.enter_async_context(services.uploads)  # each is in memory until it is written
        data = await _body(request, services)
        new = await _kind(sandboxes, session_id, path) == "missing"
        with _border(WorkspaceConflict):
            await sandboxes.write(session_id, path, data)
    return Response(status_code=201 if new else 204)


@router.delete("/files/{path:file}", status_code=204, response_class=Response)
async def delete_file(
    session_id: SessionId,
    path: FilePath,
    services: Wired,
    principal: Writer,
    recursive: Annotated[bool, Query(description="Of a folder also all that is in it.")] = False,
) -> Response:
    """Remove a file, or an empty folder. A link is removed, and not what it leads to."""
    async with _opened(services, session_id, principal) as sandboxes:
        try:
            with _border(WorkspaceConflict):
                await sandboxes.remove(session_id, path, recursive=recursive)
        except WorkspaceConflict:
            if await _kind(sandboxes, session_id, path) == "missing":
                raise NoSuchFile(f"there is no file {path!r}") from None
            raise
    return Response(status_code=204)


def _opened(services: Services, session_id: str, principal: Principal) -> AbstractAsyncContextManager[Sandboxes]:
    return services.workspaces.opened(session_id, principal.user_id, key_id=principal.key_id)


@contextmanager
def _border(otherwise: type[GreenroomError]) -> Generator[None]:
    """What the sandbox refuses is nearly always of one kind per operation."""
    try:
        yield
    except PolicyRefused as error:
        raise PolicyRefusal(str(error)) from error
    except WorkspaceError as error:
        raise otherwise(str(error)) from error


async def _file(sandboxes: Sandboxes, session_id: str, path: str) -> FileStat:
    with _border(NoSuchFile):
        found = await sandboxes.stat(session_id, path)
    if found.kind == "missing":
        raise NoSuchFile(f"there is no file {path!r}")
    if found.kind == "folder":
        raise WorkspaceConflict(f"{path!r} is a folder; `GET …/files?path=` lists it")
    return found


async def _kind(sandboxes: Sandboxes, session_id: str, path: str) -> str:
    """What is there, for the answer's status alone: what is refused is said by the operation itself."""
    try:
        return (await sandboxes.stat(session_id, path)).kind
    except PolicyRefused:
        return "special"
    except WorkspaceError:
        return "missing"


async def _pieces(
    services: Services, principal: Principal, session_id: str, path: str, span: Span, first: bytes
) -> AsyncGenerator[bytes]:
    yield first
    at = span.start + len(first)
    try:
        async with _opened(services, session_id, principal) as sandboxes:
            while at < span.end:
                wanted = min(PIECE_BYTES, span.end - at)
                piece = await sandboxes.read(session_id, path, offset=at, max_bytes=wanted)
                if piece.size_bytes != span.size or not piece.data:
                    raise WorkspaceError(f"{path} changed while it was read")
                yield piece.data
                at += len(piece.data)
    except (GreenroomError, WorkspaceError) as error:
        # The headers are long sent. An answer that ends before its length makes the server close the connection,
        # so that nobody takes a part for the whole.
        _log.warning("download broken off", session_id=session_id, reason=str(error))


async def _body(request: Request, services: Services) -> bytes:
    """The middleware counts it, and lets no more pass than a file may have."""
    data = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_S):
            async for piece in request.stream():
                data += piece
    except BodyTooLarge:
        raise FileTooLarge(f"a file may have {services.settings.policy_max_file_mb:,} MiB") from None
    except TimeoutError:
        raise InvalidInput(f"the body was not sent within {UPLOAD_S:g} s") from None
    return bytes(data)


def _no_such_range(request: Request, error: RangeNotSatisfiable, size: int) -> Response:
    return problem(
        request.scope["request_id"],
        request.url.path,
        code=error.code,
        detail=error.message,
        members=error.details,
        headers={"Content-Range": f"bytes */{size}"},
    )
