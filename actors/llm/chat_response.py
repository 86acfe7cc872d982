"""Reading a model server's responses: streamed answers, whole answers, bodies of errors."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import httpx

from .answer import AnswerAssembler
from .base import ReasoningText, TextDelta
from .deadlines import DeadlinePassed, StreamDeadline
from .event_stream import EventStreamDecoder
from .failures import Cause, UpstreamFailure, of_response
from .json_values import parse_object

_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_LINGER_S = 0.25


async def read_answer(
    response: httpx.Response, assembler: AnswerAssembler, deadline: StreamDeadline
) -> AsyncGenerator[TextDelta | ReasoningText, None]:
    """Feed the assembler until the answer is whole, yielding what is new.

    Raises `UpstreamFailure`, `httpx.HTTPError` or `DeadlinePassed`. What breaks after the server said
    that the message is whole is no failure: at worst the usage is missing.
    """
    content_type = response.headers.get("content-type", "")
    if "html" in content_type:
        raise UpstreamFailure(Cause.GARBLED, "it sent a web page; is the base URL right?")
    if "json" in content_type:  # the server ignores `stream`
        for item in assembler.feed(_parse(await read_body(response, deadline, _MAX_ANSWER_BYTES))):
            yield item
        if not assembler.finished:
            raise UpstreamFailure(Cause.GARBLED, "the answer has no finish_reason")
        return
    pieces = response.aiter_bytes()
    parser = _StreamParser(assembler)
    while not parser.done:
        try:
            piece = await deadline.wait(anext(pieces, None))
        except (httpx.HTTPError, DeadlinePassed):
            if assembler.finished:
                return
            raise
        progress = assembler.progress
        for item in parser.feed(piece):
            yield item
        if assembler.progress != progress:
            deadline.token()
    await _read_to_end(pieces)


class _StreamParser:
    """Pieces of a streamed body in, deltas out, until `[DONE]` or the end (None) came."""

    def __init__(self, assembler: AnswerAssembler) -> None:
        self.done = False
        self._assembler = assembler
        self._events = EventStreamDecoder()
        self._received = 0

    def feed(self, piece: bytes | None) -> Iterator[TextDelta | ReasoningText]:
        self._received += len(piece or b"")
        if self._received > _MAX_ANSWER_BYTES:
            raise UpstreamFailure(Cause.GARBLED, f"the answer is larger than {_MAX_ANSWER_BYTES} bytes")
        for event in self._events.close() if piece is None else self._events.feed(piece):
            if event == b"[DONE]":
                self.done = True
                return
            if event:
                yield from self._assembler.feed(_parse(event))
        if piece is None:
            self.done = True
            if not self._assembler.finished:
                raise UpstreamFailure(Cause.AMBIGUOUS, "the stream ended in the middle of the answer")


async def read_failure(response: httpx.Response, deadline: StreamDeadline, now: datetime) -> UpstreamFailure:
    """What a response with an error status says."""
    try:
        body = parse_object(await read_body(response, deadline, _MAX_ERROR_BYTES))
    except (httpx.HTTPError, DeadlinePassed, UpstreamFailure):
        body = None  # the status alone says enough
    return of_response(response.status_code, response.headers, body, now)


async def read_body(response: httpx.Response, deadline: StreamDeadline, max_bytes: int) -> bytes:
    """The whole body. Raises `UpstreamFailure` when it is larger than `max_bytes`."""
    body = bytearray()
    pieces = response.aiter_bytes()
    while (piece := await deadline.wait(anext(pieces, None))) is not None:
        body += piece
        if len(body) > max_bytes:
            raise UpstreamFailure(Cause.GARBLED, f"the body is larger than {max_bytes} bytes")
    return bytes(body)


def _parse(data: bytes) -> dict[str, Any]:
    chunk = parse_object(data)
    if chunk is None:
        raise UpstreamFailure(Cause.GARBLED, f"not a JSON object: {data[:100]!r}")
    return chunk


async def _read_to_end(pieces: AsyncIterator[bytes]) -> None:
    """A connection can be used again only when its response was read to the end, which is near."""
    try:
        async with asyncio.timeout(_LINGER_S):
            async for _ in pieces:
                pass
    except (httpx.HTTPError, TimeoutError):
        pass
