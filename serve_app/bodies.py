"""Bodies of requests, as the OpenAPI document describes them."""

import json
import unicodedata
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from actors.core.events import Decision
from actors.core.text import depth_of, has_lone_surrogate

SESSION_ID = r"^[A-Za-z0-9_-]{1,64}$"
MAX_SEQ = 2**63 - 1
"""What the databases' integers hold."""
MAX_SYSTEM_CHARS = 100_000
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 32
MAX_TOOLS = 64


class _Request(BaseModel):
    # A misspelt member is an error that names it, not a setting that is silently not applied.
    model_config = ConfigDict(extra="forbid")


def _check_text(text: str) -> str:
    if has_lone_surrogate(text):
        raise ValueError("it holds a lone surrogate, which is no text")
    return text


def _check_message(message: str) -> str:
    if not message.strip():
        raise ValueError("the message is empty")
    return message


def _check_model(name: str) -> str:
    # Names are stored as text, in which a database may not hold them.
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise ValueError("it holds a control character, which no name of a model has")
    return name


Text = Annotated[str, AfterValidator(_check_text)]
Message = Annotated[Text, AfterValidator(_check_message)]
ModelName = Annotated[Text, AfterValidator(_check_model)]
ToolName = Annotated[Text, Field(min_length=1, max_length=64)]

_MODEL = Field(None, max_length=200, description="A model of `GET /api/v1/models`.", examples=["demo"])
OnBusyChoice: TypeAlias = Annotated[
    Literal["enqueue", "reject", "interrupt", "steer"],
    Field(
        description=(
            "While a turn runs: `enqueue` waits for it, `reject` is answered 409 `session_busy`, `interrupt` cancels "
            "it, `steer` is taken into it before its next step, and its own turn ends with `steered`."
        )
    ),
]


class _SessionFields(_Request):
    model: ModelName | None = _MODEL
    system: Text | None = Field(None, max_length=MAX_SYSTEM_CHARS, description="System prompt of a new session.")
    metadata: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Yours; kept with the session.", examples=[{"project": "apollo"}]
    )
    approvals: list[ToolName] = Field(
        default_factory=list[ToolName],
        max_length=MAX_TOOLS,
        description="Tools of a new session that run only when a person has approved the call.",
        examples=[["run_shell"]],
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
    message: Message = Field(
        description="What the user says.", examples=["Compute the 50th Fibonacci number in Python"]
    )
    session_id: str | None = Field(None, pattern=SESSION_ID, description="Go on in this session; a new one without it.")
    on_busy: OnBusyChoice = "enqueue"
    stream: bool = Field(default=False, description="Answer with server-sent events.")

    @model_validator(mode="after")
    def _asks_from_the_start(self) -> Self:
        # Not passed over in silence, as tools would run that somebody believes to be held back.
        if self.approvals and self.session_id is not None:
            raise ValueError("approvals are chosen when a session is opened, and this one is there already")
        return self


class EstimateRequest(_Request):
    message: Message = Field(description="What the user would say.", examples=["Summarise report.csv"])
    session_id: str | None = Field(None, pattern=SESSION_ID, description="In this session; in a new one without it.")
    model: ModelName | None = _MODEL
    system: Text | None = Field(None, max_length=MAX_SYSTEM_CHARS, description="System prompt of a new session.")
    max_completion_tokens: int | None = Field(
        None, ge=1, le=MAX_SEQ, description="Of a shorter answer than the server asks for.", examples=[1024]
    )


class MessageRequest(_Request):
    message: Message = Field(description="What the user says.", examples=["And the 51st?"])
    model: ModelName | None = _MODEL
    on_busy: OnBusyChoice = "enqueue"


class EditRequest(_Request):
    message: Message = Field(description="What the message says from now on.", examples=["And the 52nd?"])


class SessionRequest(_SessionFields):
    id: str | None = Field(None, pattern=SESSION_ID, description="An id of your own; the same one again is found.")


class ForkRequest(_Request):
    from_event: int | None = Field(
        default=None,
        ge=1,
        le=MAX_SEQ,
        description="The last event that is copied; by default the newest.",
        examples=[7],
    )
    include: list[Literal["memory", "workspace"]] = Field(
        default_factory=list[Literal["memory", "workspace"]],
        max_length=2,
        description=(
            "`workspace`: the files of the session's sandbox, as they are now. `memory`: what was remembered; it "
            "belongs to the user and is there in every session of the user, so that it is part of a fork in any case."
        ),
        examples=[["memory", "workspace"]],
    )


class DecisionRequest(_Request):
    decision: Decision = Field(description="`deny` tells the model that a person did not allow it.")
    reason: Text | None = Field(None, max_length=2000, description="The model reads it when the call is denied.")


class ExecRequest(_Request):
    command: Text | None = Field(
        None, min_length=1, description="A command line for `sh -c`.", examples=["wc -l *.csv | sort -n"]
    )
    python: Text | None = Field(
        None, min_length=1, description="In place of it: a Python program, for a fresh interpreter.", examples=[None]
    )
    keep: bool = Field(
        default=False,
        description="Run `python` in the session's interpreter that lasts, which the model's `keep` uses too.",
        examples=[False],
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="It is killed after so many seconds; by default, and at most, what the server allows a command.",
        examples=[60],
    )
    stream: bool = Field(default=False, description="Answer with server-sent events.")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if (self.command is None) == (self.python is None):
            raise ValueError("give either `command` or `python`")
        if self.keep and self.python is None:
            raise ValueError("`keep` is of `python`: a command has no variables")
        return self
