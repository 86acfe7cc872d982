"""Bodies of requests and answers, as the OpenAPI document describes them."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from actors.core.text import depth_of, has_lone_surrogate

SESSION_ID = r"^[A-Za-z0-9_-]{1,64}$"
MAX_SYSTEM_CHARS = 100_000
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32


class _Request(BaseModel):
    # A misspelt member is an error that names it, not a setting that is silently not applied.
    model_config = ConfigDict(extra="forbid")


def _check_text(text: str) -> str:
    if has_lone_surrogate(text):
        raise ValueError("it holds a lone surrogate, which is no text")
    return text


Text = Annotated[str, AfterValidator(_check_text)]


class _SessionFields(_Request):
    model: Text | None = Field(None, max_length=200, description="A model of `GET /api/v1/models`.", examples=["demo"])
    system: Text | None = Field(None, max_length=MAX_SYSTEM_CHARS, description="System prompt of a new session.")
    metadata: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Yours; kept with the session.", examples=[{"project": "apollo"}]
    )

    @field_validator("metadata")
    @classmethod
    def _storable(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if depth_of(metadata) > MAX_METADATA_DEPTH:
            raise ValueError(f"metadata may be nested {MAX_METADATA_DEPTH} levels deep at most")
        try:
            size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
        except UnicodeEncodeError:
            raise ValueError("it holds a lone surrogate, which is no text") from None
        except ValueError:
            raise ValueError("it holds NaN or an infinite number, which are no JSON") from None
        if size > MAX_METADATA_BYTES:
            raise ValueError(f"metadata may take {MAX_METADATA_BYTES} bytes at most")
        return metadata


class ChatRequest(_SessionFields):
    message: Text = Field(description="What the user says.", examples=["Compute the 50th Fibonacci number in Python"])
    session_id: str | None = Field(None, pattern=SESSION_ID, description="Go on in this session; a new one without it.")
    stream: bool = Field(default=False, description="Answer with server-sent events.")

    @field_validator("message")
    @classmethod
    def _says_something(cls, message: str) -> str:
        if not message.strip():
            raise ValueError("the message is empty")
        return message


class SessionRequest(_SessionFields):
    id: str | None = Field(None, pattern=SESSION_ID, description="An id of your own; the same one again is found.")


class UsageOut(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int


class CostOut(BaseModel):
    """Whole micro-dollars. `known` is false when a model call told no price: then the sum is a lower bound."""

    micros: int = Field(examples=[1234])
    usd: str = Field(examples=["0.001234"])
    known: bool


class ToolCallOut(BaseModel):
    id: str
    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")
    content: str = Field(description="What the model got to read.")
    error: str | None = None
    duration_ms: int


class ChatResponse(BaseModel):
    success: Literal[True] = True
    session_id: str
    turn_id: str
    message: str
    tool_calls: list[ToolCallOut]
    stop_reason: str = Field(examples=["end_turn"])
    usage: UsageOut
    cost: CostOut


class Accepted(BaseModel):
    """The message is in the journal; its turn goes on without you."""

    session_id: str
    turn_id: str
    message_id: str
    position: int = Field(description="Turns that run before it.")


class SessionOut(BaseModel):
    id: str
    title: str | None
    model: str
    system: str | None
    metadata: dict[str, Any]
    status: str = Field(examples=["idle"])
    created_at: str
    updated_at: str
    last_seq: int
    usage: UsageOut
    cost: CostOut


class SessionPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[SessionOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EventPage(BaseModel):
    """Events are flat objects: `type`, `seq`, `session_id`, `turn_id`, `created_at` and the members of their type."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    last_seq: int = Field(description="Number of the last event in `data`; ask on with `after` set to it.")
    has_more: bool


class ErrorOut(BaseModel):
    code: str
    message: str
    retryable: bool


class TurnOut(BaseModel):
    id: str
    session_id: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    stop_reason: str | None
    error: ErrorOut | None
    steps: int
    usage: UsageOut
    cost: CostOut
    created_at: str
    finished_at: str | None


class ModelOut(BaseModel):
    id: str
    name: str
    context_length: int | None
    prompt_usd: str | None = Field(description="US dollars per token; null is unknown.")
    completion_usd: str | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]
    default: str


class CheckOut(BaseModel):
    name: str
    status: Literal["healthy", "warning", "unhealthy"]
    message: str
    loading: bool = Field(default=False, description="It is starting: ask again soon.")


class HealthOut(BaseModel):
    status: Literal["healthy", "warning", "unhealthy"]
    timestamp: str
    checks: list[CheckOut]
    uptime: int = Field(description="Seconds.")
    version: str


class Problem(BaseModel):
    """RFC 9457. `code` is stable; `retryable` says whether the same request may succeed later."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: bool
    errors: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route of the API describes as its errors: these, and those that every one has."""
    return {status: {"model": Problem} for status in (401, 403, *statuses)}
