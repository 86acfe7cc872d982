"""Bodies of answers, as the OpenAPI document describes them."""

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from actors.agent.approval_book import ApprovalStatus
from actors.core.events import Decision, OnBusy
from actors.sandbox.base import Variables, Verdict

SessionStatus: TypeAlias = Literal["idle", "running", "waiting", "paused"]
TurnStatus: TypeAlias = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]


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


class Unfinished(Accepted):
    """The turn has not ended: it takes long, or goes on only when a person has decided."""

    status: TurnStatus = Field(examples=["waiting"])
    approval_ids: list[str] = Field(description="What people are asked in this session: `POST /api/v1/approvals/{id}`.")


class OriginOut(BaseModel):
    """The session that this one was copied from, and the last of its events that was."""

    session_id: str
    seq: int


class SessionOut(BaseModel):
    id: str
    title: str | None
    model: str
    system: str | None
    metadata: dict[str, Any]
    status: SessionStatus = Field(description="`waiting` and `paused` sessions do nothing until a person says so.")
    approvals: list[str] = Field(description="Tools that run only when a person has approved the call.")
    forked_from: OriginOut | None
    created_at: str
    updated_at: str
    last_seq: int
    oldest_seq: int = Field(description="Number of the first event that is left; 1 unless the history was trimmed.")
    usage: UsageOut
    cost: CostOut


class CopiedOut(BaseModel):
    files: int
    bytes: int


class ForkOut(SessionOut):
    workspace: CopiedOut | None = Field(
        description="Files that were copied; null when none were asked for, and when the answer is a replay."
    )


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


class InboxEntry(BaseModel):
    """A message whose turn has not begun."""

    message_id: str
    turn_id: str
    content: str
    on_busy: OnBusy
    position: int = Field(description="Turns that run before it.")


class InboxList(BaseModel):
    object: Literal["list"] = "list"
    data: list[InboxEntry]


class ApprovalOut(BaseModel):
    """A tool call that waits for a person, or what became of it."""

    id: str
    session_id: str
    turn_id: str
    tool_call_id: str
    name: str = Field(examples=["run_shell"])
    arguments: str = Field(description="JSON, as the model wrote it.", examples=['{"command":"rm -r build"}'])
    status: ApprovalStatus
    created_at: str
    expires_at: str
    on_expiry: Decision = Field(description="What is decided when nobody has until `expires_at`.")
    resolved_at: str | None
    decision: Decision | None
    reason: str | None
    by: str | None = Field(description="The user who decided.")


class ApprovalPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[ApprovalOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ErrorOut(BaseModel):
    code: str
    message: str
    retryable: bool
    details: dict[str, Any] = {}
    """Of a refusal for money."""


class TurnOut(BaseModel):
    id: str
    session_id: str
    message_id: str = Field(description="The message that it answers.")
    status: TurnStatus
    stop_reason: str | None
    error: ErrorOut | None
    stopped: list[str] = Field(description="What was running when it was cancelled: `model`, or names of tools.")
    steps: int
    usage: UsageOut
    cost: CostOut
    created_at: str
    finished_at: str | None


class ExecOut(BaseModel):
    """How a command ended. One that ended badly, or was not allowed, is an answer and no error."""

    verdict: Verdict = Field(
        description="`policy`: it was not run, and `output` says why. `ok` and `nonzero` ended by themselves."
    )
    exit_code: int | None = Field(description="As a shell has it: 128 and the signal's number; null when it has none.")
    output: str = Field(
        description="What it printed, stdout and stderr together; of much the head and the tail.", examples=["42\n"]
    )
    truncated: bool = Field(description="`output` is not all.")
    wall_s: float = Field(description="Seconds.", examples=[0.012])
    output_bytes: int = Field(description="All that it printed, also what `output` leaves out.", examples=[3])
    cpu_s: float | None = Field(description="Seconds of processor; null where nobody counts them.", examples=[0.009])
    peak_memory_bytes: int | None = Field(
        description="The most that the whole sandbox held while it ran, its files included; null where nobody counts.",
        examples=[18874368],
    )
    variables: Variables | None = Field(
        description="Of a program with `keep`: `new` interpreter, `kept` from earlier calls, or `gone` with this one."
    )


class FileOut(BaseModel):
    """A regular file or a folder; links and other things are not listed."""

    path: str = Field(description="Relative to the workspace.", examples=["data/table.csv"])
    type: Literal["file", "folder"]
    size_bytes: int = Field(examples=[1234])


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileOut]
    truncated: bool = Field(description="There is more: ask for one folder with `path`, or for more with `limit`.")


class ModelOut(BaseModel):
    id: str
    name: str
    context_length: int | None
    prompt_usd: str | None = Field(description="US dollars per token; null is unknown.")
    completion_usd: str | None
    price_source: Literal["price_list", "fallback"] | None = Field(
        description="The server's list, or the table that Greenroom brings; null is unknown."
    )


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]
    default: str
    listed_at: str | None = Field(description="When the server's list, with its prices, was read; it is kept an hour.")


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
