"""Which form an answer takes: a stream or JSON."""

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from .sse import EVENT_STREAM


def wants_stream(request: Request) -> bool:
    """The client prefers server-sent events to JSON."""
    return EVENT_STREAM in request.headers.get("accept", "")


def respond(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer, written by pydantic in one pass: FastAPI would validate the model a second time."""
    return Response(model.model_dump_json(), status, headers, media_type="application/json")
