"""Cost reports and estimates as the API shows them."""

from dataclasses import replace

from actors.agent.advice import Advice
from actors.agent.cost_reports import Report
from actors.agent.estimates import Estimate, fits
from actors.agent.tool_uses import ToolUse
from actors.core.clock import rfc3339
from actors.core.events import Spent
from actors.ledger.gauges import Gauge
from actors.ledger.sums import Group, Slice, Sums

from . import present
from .cost_export import OTHERS
from .cost_schemas import (
    AdviceOut,
    AlternativeOut,
    BoundOut,
    BudgetOut,
    CostReportOut,
    CostRow,
    EstimateOut,
    HeadroomOut,
    LikelyOut,
    SliceGroup,
    SliceOut,
    SumsOut,
    ToolUseOut,
)
from .schemas import CostOut

_PLACES = 6
"""Of shares: a millionth is enough."""


def report(made: Report) -> CostReportOut:
    total, tools = made.costs.total, made.tools
    rows = [_row(group, total) for group in made.costs.groups]
    if tools is not None:
        rows = [_tool_row(use, total, sums) for use, sums in _with_costs(made)]
    return CostReportOut(
        period=made.span.period,
        group_by=made.asked.group_by,
        everyone=made.asked.user_id is None,
        start=rfc3339(made.span.begin),
        end=rfc3339(made.span.end),
        totals=_sums(total),
        data=rows,
        series=[_slice(one, made, at) for at, one in enumerate(made.costs.slices)],
        truncated=tools is not None and tools.cut,
        budgets=[_budget(gauge) for gauge in made.gauges],
        recommendations=[_advice(one) for one in made.advice],
    )


def estimate(made: Estimate) -> EstimateOut:
    likely, other = made.likely, made.alternative
    return EstimateOut(
        model=made.model,
        prompt_usd=f"{made.price.prompt_usd:f}",
        completion_usd=f"{made.price.completion_usd:f}",
        worst_case=BoundOut(
            prompt_tokens=made.prompt_tokens_at_most,
            completion_tokens=made.completion_tokens_at_most,
            cost=_cost(made.worst_micros),
        ),
        likely=likely
        and LikelyOut(
            prompt_tokens=likely.prompt_tokens,
            completion_tokens=likely.completion_tokens,
            cost=_cost(likely.micros),
            from_calls=likely.calls,
            from_turns=likely.turns,
            calls_per_turn=likely.calls_per_turn,
        ),
        budgets=[
            HeadroomOut(**_budget(gauge).model_dump(), fits=gauge.flag is None and fits(gauge, made.worst_micros))
            for gauge in made.gauges
        ],
        fits=made.fits,
        alternative=other and AlternativeOut(model=other.model, worst_case=_cost(other.worst_micros)),
    )


def _cost(micros: int, *, known: bool = True) -> CostOut:
    return present.cost(Spent(cost_micros=micros, cost_known=known))


def _sums(sums: Sums) -> SumsOut:
    return SumsOut(
        cost=_cost(sums.micros, known=sums.unknown == 0),
        calls=sums.calls,
        other_uses=sums.uses,
        unknown_calls=sums.unknown,
        running_calls=sums.running,
        known_share=_share(sums.calls + sums.uses - sums.unknown, sums.calls + sums.uses),
        held_micros=sums.held,
        usage=present.usage(sums.usage),
    )


def _row(group: Group, total: Sums) -> CostRow:
    share = _share(group.sums.micros, total.micros)
    return CostRow(**dict(_sums(group.sums)), group=group.key, share=share)


def _with_costs(made: Report) -> list[tuple[ToolUse, Sums]]:
    """Tools as journal and ledger know them: one that only the ledger knows was used in a session since gone."""
    assert made.tools is not None
    assert made.paid is not None
    paid = {OTHERS if group.key is None else group.key: group.sums for group in made.paid.groups}
    found = [(use, paid.pop(use.name, Sums())) for use in made.tools.tools]
    return found + [(ToolUse(name, calls=sums.uses), sums) for name, sums in paid.items()]


def _tool_row(use: ToolUse, total: Sums, paid: Sums) -> CostRow:
    prompt = total.usage.prompt_tokens
    tool = ToolUseOut(
        failed=use.failed,
        unknown=use.lost,
        wall_s=use.wall_ms / 1000,
        output_chars=use.output_chars,
        prompt_tokens_estimate=use.prompt_tokens,
    )
    share = _share(min(use.prompt_tokens, prompt), prompt)
    return CostRow(
        **dict(_sums(replace(paid, calls=max(use.calls, paid.uses), uses=0))), group=use.name, share=share, tool=tool
    )


def _slice(one: Slice, made: Report, at: int) -> SliceOut:
    groups = [
        SliceGroup(
            group=group.key,
            micros=group.sums.micros,
            calls=group.sums.calls,
            total_tokens=group.sums.usage.total_tokens,
        )
        for group in one.groups
    ]
    if made.tools is not None and made.paid is not None:
        paid = {group.key: group.sums.micros for group in made.paid.slices[at].groups}
        groups = [
            SliceGroup(
                group=use.name,
                micros=paid.get(use.name, 0),
                calls=use.calls,
                total_tokens=use.prompt_tokens,
                wall_s=use.wall_ms / 1000,
            )
            for use in made.tools.slices[at]
        ]
    return SliceOut(**dict(_sums(one.sums)), start=rfc3339(one.begin), end=rfc3339(one.end), groups=groups)


def _budget(gauge: Gauge) -> BudgetOut:
    return BudgetOut(
        scope=gauge.scope,
        window=gauge.window,
        spent_micros=gauge.spent,
        reserved_micros=gauge.reserved,
        limit_micros=gauge.limit,
        left_micros=gauge.left,
        flag=gauge.flag,
        resets_at=None if gauge.resets_at is None else rfc3339(gauge.resets_at),
    )


def _advice(one: Advice) -> AdviceOut:
    return AdviceOut(kind=one.kind, text=one.text, saves_micros=one.saves_micros, numbers=one.numbers)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, _PLACES) if whole else None
