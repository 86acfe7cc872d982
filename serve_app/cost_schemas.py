"""Bodies of cost reports and estimates, as the OpenAPI document describes them."""

from typing import Literal

from pydantic import BaseModel, Field

from actors.ledger.base import Flag, Window
from actors.ledger.costs import GroupBy
from actors.ledger.periods import Period

from .schemas import CostOut, UsageOut


class SumsOut(BaseModel):
    """What was paid for, added up. `cost` is a lower bound where the cost of something is not known."""

    cost: CostOut
    calls: int = Field(description="Of models: a call that was tried again counts each time.")
    other_uses: int = Field(description="Uses of tools, sandboxes and embeddings, whose cost is in the sum.")
    unknown_calls: int = Field(description="Calls and uses whose cost nobody has told, those that still run included.")
    running_calls: int
    known_share: float | None = Field(description="Of calls and uses, those whose cost is known: 0 to 1.")
    held_micros: int = Field(description="What budgets were charged for unknown calls, until their cost is known.")
    usage: UsageOut


class ToolUseOut(BaseModel):
    """How a tool was used. Free or not, its output costs as part of later prompts."""

    failed: int
    unknown: int = Field(description="Calls whose outcome nobody knows.")
    wall_s: float
    output_chars: int
    prompt_tokens_estimate: int = Field(
        description="An estimate: four characters a token, once for each later model call of the session in this time."
    )


class CostRow(SumsOut):
    group: str | None = Field(description="Id of the user or session, or name; null is all the others together.")
    share: float | None = Field(
        description="Of the total cost, 0 to 1; of a tool, its estimated share of all prompt tokens."
    )
    tool: ToolUseOut | None = Field(default=None, description="With `group_by=tool`; `calls` are then the tool's.")


class SliceGroup(BaseModel):
    group: str | None
    micros: int
    calls: int
    total_tokens: int
    wall_s: float | None = Field(default=None, description="Of a tool.")


class SliceOut(SumsOut):
    """One day, week or month."""

    start: str
    end: str
    groups: list[SliceGroup]


class BudgetOut(BaseModel):
    scope: str = Field(examples=["user"])
    window: Window
    spent_micros: int
    reserved_micros: int = Field(description="Held for calls that run.")
    limit_micros: int | None = Field(description="Null is no limit.")
    left_micros: int | None
    flag: Flag | None = Field(description="A budget that refuses everything paid.")
    resets_at: str | None


class AdviceOut(BaseModel):
    """Reckoned from the rows of this report, whose figures are in `numbers`."""

    kind: Literal["tool_output", "caching", "cheaper_model"]
    text: str
    saves_micros: int | None = Field(description="What it would have saved in this time; null is not known.")
    numbers: dict[str, int | str]


class CostReportOut(BaseModel):
    object: Literal["cost_report"] = "cost_report"
    period: Period
    group_by: GroupBy
    everyone: bool = Field(description="Over all users; else over the caller's own rows.")
    tz: Literal["UTC"] = "UTC"
    start: str = Field(description="Times are widened to whole periods.")
    end: str
    totals: SumsOut
    data: list[CostRow]
    series: list[SliceOut]
    truncated: bool = Field(description="There were more tool calls than are looked at: figures of tools are too low.")
    budgets: list[BudgetOut] = Field(description="The caller's, now.")
    recommendations: list[AdviceOut] = Field(description="None where there are too few rows.")


class BoundOut(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    cost: CostOut


class LikelyOut(BoundOut):
    """Medians of your own calls of this model."""

    from_calls: int = Field(description="Rows that it is drawn from.")
    from_turns: int
    calls_per_turn: float = Field(description="A turn that uses tools calls the model more than once.")


class HeadroomOut(BudgetOut):
    fits: bool


class AlternativeOut(BaseModel):
    model: str
    worst_case: CostOut


class EstimateOut(BaseModel):
    """The first model call of a message. Nothing was sent, and nothing is held."""

    object: Literal["estimate"] = "estimate"
    model: str
    prompt_usd: str = Field(description="US dollars per token.")
    completion_usd: str
    worst_case: BoundOut = Field(description="What would be held: every byte taken for a token, and a whole answer.")
    likely: LikelyOut | None = Field(description="Null without a call of this model to tell it from.")
    budgets: list[HeadroomOut]
    fits: bool = Field(
        description="Every budget has room for the worst case. If not, the answer may still be cut to fit."
    )
    alternative: AlternativeOut | None = Field(
        description="The dearest listed model that would fit, where this does not."
    )
