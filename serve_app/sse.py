"""Server-sent events: a session's journal and previews as frames, for as long as somebody reads.

A reader asks the session again and again (a long poll, each with a deadline) and holds nothing in the
session's process. So a reader that is slow, or gone without a word, costs the turn nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

import structlog
from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from actors.agent.sessions import Sessions
from actors.core.errors import GreenroomError
from actors.core.events import PREVIEW, TERMINAL, Event, Preview

from .problems import told_of

EVENT_STREAM = "text/event-stream"
EXAMPLE = """\
retry: 1000

id: 2
event: message.accepted
data: {"type":"message.accepted","seq":2,"turn_id":"turn_…","message_id":"msg_…","content":"Hello"}

event: message.delta
data: {"type":"message.delta","turn_id":"turn_…","message_id":"msg_…","offset":0,"text":"Hi"}

id: 4
event: message.completed
data: {"type":"message.completed","seq":4,"turn_id":"turn_…","message_id":"msg_…","content":"Hi there."}

id: 6
event: turn.completed
data: {"type":"turn.completed","seq":6,"turn_id":"turn_…","stop_reason":"end_turn"}
"""

RETRY = b"retry: 1000\n\n"
PING = b": ping\n\n"
PIECE_BYTES = 64 * 1024
"""A long history is read and written in pieces of about this size."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_log = structlog.stdlib.get_logger("greenroom.sse")


class TooSlow(Exception):
    """The reader took nothing for too long. Never leaves this file."""


class EventStream(StreamingResponse):
    """A stream that is cut off when its reader takes nothing for `write_s`; it may resume after its last id."""

    def __init__(
        self, frames: AsyncGenerator[bytes], *, write_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(frames, headers={**_HEADERS, **(headers or {})}, media_type=EVENT_STREAM)
        self._frames = frames
        self._write_s = write_s

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            deadline = asyncio.timeout(self._write_s)
            try:
                async with deadline:
                    await send(message)
            except TimeoutError as error:
                raise (TooSlow if deadline.expired() else error) from None

        try:
            async with aclosing(self._frames):
                await super().stream_response(_in_pieces(send_in_time))
        except TooSlow:
            # Returning in the middle of a body is what makes the server close the connection.
            _log.warning("reader too slow, cut off", write_s=self._write_s)


def _in_pieces(send: Send) -> Send:
    """Send a long body piece by piece, so that a slow reader is seen to take some of it."""

    async def send_pieces(message: Message) -> None:
        body: bytes = message.get("body", b"")
        while len(body) > PIECE_BYTES:
            await send({**message, "body": body[:PIECE_BYTES], "more_body": True})
            body = body[PIECE_BYTES:]
        await send({**message, "body": body} if "body" in message else message)

    return send_pieces


def event_frame(event: Event) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, event.body.type.encode(), to_json(event.wire()))


def preview_frame(preview: Preview) -> bytes:
    """No `id`: a reader that comes back asks from the last numbered event it has."""
    return b"event: %b\ndata: %b\n\n" % (preview.type.encode(), PREVIEW.dump_json(preview))


def error_frame(error: GreenroomError) -> bytes:
    known = {"type": "error", "code": error.code, "message": error.message, "retryable": error.retryable}
    body = {**told_of(error), **known}
    return b"event: error\ndata: %b\n\n" % to_json(body)


async def frames(
    sessions: Sessions,
    session_id: str,
    user_id: str,
    *,
    after: int,
    turn_id: str | None = None,
    heartbeat_s: float,
) -> AsyncGenerator[bytes]:
    """Frames of a session from `after` on. With `turn_id`: that turn's only, ended by its terminal event."""
    yield RETRY
    seen: dict[str, int] = {}
    now = asyncio.get_running_loop().time
    sent = now()
    while True:
        try:
            wait_s = max(0.0, sent + heartbeat_s - now())
            batch = await sessions.follow(session_id, user_id, after=after, seen=seen, wait_s=wait_s)
        except GreenroomError as error:
            # The headers are long sent: the reader learns it here, and may resume with its last number.
            _log.warning("stream broken off", session_id=session_id, code=error.code)
            yield error_frame(error)
            return
        seen = batch.seen
        chunk = bytearray()
        for event in batch.events:
            after = event.seq
            if turn_id is None or event.turn_id == turn_id:
                chunk += event_frame(event)
                if turn_id is not None and isinstance(event.body, TERMINAL):
                    yield bytes(chunk)
                    return
                if len(chunk) >= PIECE_BYTES:
                    yield bytes(chunk)
                    chunk.clear()
                    sent = now()
        for preview in batch.previews:
            if turn_id is None or preview.turn_id == turn_id:
                chunk += preview_frame(preview)
        # What is of another turn is no frame, so that alone does not tell the reader that its stream lives.
        if chunk or now() >= sent + heartbeat_s:
            yield bytes(chunk) or PING
            sent = now()


async def recorded(events: AsyncIterator[Event]) -> AsyncGenerator[bytes]:
    """Frames of events that are in the journal, and no more."""
    chunk = bytearray(RETRY)
    try:
        async for event in events:
            chunk += event_frame(event)
            if len(chunk) >= PIECE_BYTES:
                yield bytes(chunk)
                chunk.clear()
    except GreenroomError as error:
        _log.warning("replay broken off", code=error.code)
        chunk += error_frame(error)
    yield bytes(chunk)
