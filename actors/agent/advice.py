"""What would have cost less, reckoned from a user's own rows and the price list, and the figures it follows from.

Pure functions. Where there are few rows nothing is advised. Whether an answer of a cheaper model would have done as
well is nothing that rows tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

from ..core.money import MICROS_PER_USD, format_usd, to_micros
from ..ledger.model_uses import CACHE_S, ModelUse, plain_name
from ..llm.base import ModelInfo
from .tool_uses import CHARS_PER_TOKEN, ToolUses

CALLS_LEAST = 20
"""Model calls with known tokens and cost, below which nothing is advised."""

USES_LEAST = 5
"""Tool calls, below which nothing is said of them."""

SHARE_LEAST = Decimal("0.25")
"""Of the prompt tokens: with less of them tool output is no subject."""

SAVING_LEAST = Decimal("0.05")
"""Of what the model cost: less is not worth a change."""

_MUCH_CHEAPER = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Advice:
    """One recommendation. `saves_micros` is what it would have saved in the time reported; None is not known."""

    kind: Literal["tool_output", "caching", "cheaper_model"]
    text: str
    saves_micros: int | None
    numbers: dict[str, int | str]


def advise(uses: Sequence[ModelUse], tools: ToolUses, listed: Sequence[ModelInfo]) -> tuple[Advice, ...]:
    """What there is to say, what saves most first."""
    prices = {plain_name(info.id): info for info in listed} | {info.id: info for info in listed}
    said = [_tool_output(uses, tools)]
    for use in uses:
        if use.calls >= CALLS_LEAST:
            priced = prices.get(use.model) or prices.get(plain_name(use.model))
            said += [_caching(use, priced), _cheaper(use, listed)]
    found = [one for one in said if one is not None]
    return tuple(sorted(found, key=lambda one: -(one.saves_micros or 0)))


def _tool_output(uses: Sequence[ModelUse], tools: ToolUses) -> Advice | None:
    calls, prompt = sum(use.calls for use in uses), sum(use.usage.prompt_tokens for use in uses)
    total = tools.total
    tokens = min(total.prompt_tokens, prompt)
    if calls < CALLS_LEAST or total.calls < USES_LEAST or tokens < SHARE_LEAST * prompt:
        return None
    top = max(tools.tools, key=lambda use: use.prompt_tokens)
    return Advice(
        "tool_output",
        f"About {_percent(tokens, prompt)} of the prompt tokens are output of tools, said again in every later call "
        f"of their sessions (estimated at {CHARS_PER_TOKEN} characters a token); most of it of {top.name}. Let tools "
        "print less, or begin a new session when the subject changes.",
        None,
        {
            "model_calls": calls,
            "prompt_tokens": prompt,
            "tool_calls": total.calls,
            "output_chars": total.output_chars,
            "output_prompt_tokens_estimate": tokens,
            "top_tool": top.name,
            "top_tool_prompt_tokens_estimate": min(top.prompt_tokens, prompt),
        },
    )


def _caching(use: ModelUse, info: ModelInfo | None) -> Advice | None:
    if info is None or info.prompt_usd is None or info.cache_read_usd is None:
        return None
    less_usd = info.prompt_usd - info.cache_read_usd
    saves = _floor(use.repeated * less_usd)
    if saves <= 0 or saves < SAVING_LEAST * use.micros:
        return None
    prompt = use.usage.prompt_tokens
    return Advice(
        "caching",
        f"{use.model}: {use.usage.cached_tokens:,} of {prompt:,} prompt tokens were read from a prompt cache. "
        f"{use.repeated:,} more had been said in the call before, in the same session and within {CACHE_S // 60} "
        f"minutes: read at {_per_million(info.cache_read_usd)} in place of {_per_million(info.prompt_usd)} per million "
        f"they would have cost {format_usd(saves)} less, before what a provider takes for writing a cache.",
        saves,
        {
            "model": use.model,
            "model_calls": use.calls,
            "prompt_tokens": prompt,
            "cached_tokens": use.usage.cached_tokens,
            "repeated_tokens": use.repeated,
            "prompt_usd": str(info.prompt_usd),
            "cache_read_usd": str(info.cache_read_usd),
            "cost_micros": use.micros,
        },
    )


def _cheaper(use: ModelUse, listed: Sequence[ModelInfo]) -> Advice | None:
    """The dearest of the models of the same maker that would have cost at most half, else of all others."""
    most = _MUCH_CHEAPER * use.micros
    fitting = [(reckoned(use, info), info) for info in listed if _could_serve(info, use)]
    much_cheaper = [(cost, info) for cost, info in fitting if cost is not None and 0 < cost <= most]
    maker = use.model.partition("/")[0]
    of_maker = [(cost, info) for cost, info in much_cheaper if "/" in use.model and info.id.startswith(f"{maker}/")]
    if not much_cheaper:
        return None
    cost, info = max(of_maker or much_cheaper, key=lambda pair: (pair[0], pair[1].id))
    saves = use.micros - cost
    return Advice(
        "cheaper_model",
        f"{use.calls:,} calls of {use.model} cost {format_usd(use.micros)}. With the same tokens {info.id} would have "
        f"cost {format_usd(cost)} at list price, {format_usd(saves)} less; whether its answers would have done is for "
        "you to try.",
        saves,
        {
            "model": use.model,
            "model_calls": use.calls,
            "prompt_tokens": use.usage.prompt_tokens,
            "cached_tokens": use.usage.cached_tokens,
            "completion_tokens": use.usage.completion_tokens,
            "cost_micros": use.micros,
            "cheaper_model": info.id,
            "cheaper_cost_micros": cost,
            "cheaper_prompt_usd": str(info.prompt_usd),
            "cheaper_completion_usd": str(info.completion_usd),
        },
    )


def _could_serve(info: ModelInfo, use: ModelUse) -> bool:
    other = plain_name(info.id) != plain_name(use.model)
    return other and (info.context_length is None or info.context_length > use.largest_prompt)


def reckoned(use: ModelUse, info: ModelInfo) -> int | None:
    """Micro-dollars that the tokens would have cost at this list price; None where it is not known.

    Tokens that were read from a cache count at the cache's price where the list has one, else in full.
    """
    if info.prompt_usd is None or info.completion_usd is None:
        return None
    cache_usd = info.prompt_usd if info.cache_read_usd is None else info.cache_read_usd
    usage = use.usage
    fresh = max(0, usage.prompt_tokens - usage.cached_tokens)
    return to_micros(
        fresh * info.prompt_usd + usage.cached_tokens * cache_usd + usage.completion_tokens * info.completion_usd
    )


def _floor(usd: Decimal) -> int:
    """A saving is rounded down."""
    return int((usd * MICROS_PER_USD).to_integral_value(ROUND_FLOOR))


def _per_million(usd: Decimal) -> str:
    return f"${(usd * 1_000_000).normalize():f}"


def _percent(part: int, whole: int) -> str:
    return f"{round(100 * part / whole)} %"
