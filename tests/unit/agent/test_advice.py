"""Recommendations: their arithmetic, and that few rows say nothing."""

from dataclasses import replace
from decimal import Decimal

from actors.agent.advice import advise, reckoned
from actors.agent.tool_uses import ToolUse, ToolUses
from actors.core.messages import Usage
from actors.ledger.model_uses import ModelUse
from actors.llm.base import ModelInfo

LARGE = ModelInfo(
    "maker/large", "", 200_000, Decimal("0.00001"), Decimal("0.00003"), cache_read_usd=Decimal("0.000001")
)
MEDIUM = ModelInfo("maker/medium", "", 200_000, Decimal("0.000004"), Decimal("0.000012"))
SMALL = ModelInfo("maker/small", "", 200_000, Decimal("0.000001"), Decimal("0.000003"))
OTHER = ModelInfo("other/near", "", 200_000, Decimal("0.0000045"), Decimal("0.000015"))
SHORT = ModelInfo("maker/short", "", 1_000, Decimal("0.0000045"), Decimal("0.000015"))
FREE = ModelInfo("maker/free", "", 200_000, Decimal(0), Decimal(0))
UNPRICED = ModelInfo("maker/unpriced", "")
LISTED = (LARGE, MEDIUM, SMALL, OTHER, SHORT, FREE, UNPRICED)

USE = ModelUse("maker/large", 20, Usage(100_000, 10_000, 40_000), 1_300_000, 6_000, 30_000)


def kinds(use: ModelUse, tools: ToolUses | None = None) -> dict[str, int | None]:
    return {one.kind: one.saves_micros for one in advise([use], tools or ToolUses(), LISTED)}


def test_tokens_are_reckoned_at_the_list_with_the_caches_price() -> None:
    assert reckoned(USE, LARGE) == 600_000 + 40_000 + 300_000
    assert reckoned(USE, MEDIUM) == 400_000 + 120_000  # no price for its cache: in full
    assert reckoned(USE, UNPRICED) is None


def test_the_nearest_model_of_the_same_maker_at_half_the_cost_is_named() -> None:
    found = advise([USE], ToolUses(), LISTED)
    cheaper = next(one for one in found if one.kind == "cheaper_model")
    assert (cheaper.numbers["cheaper_model"], cheaper.saves_micros) == ("maker/medium", 1_300_000 - 520_000)
    assert "$0.520000" in cheaper.text
    assert "$1.30" in cheaper.text
    of_another = advise([replace(USE, model="third/model")], ToolUses(), LISTED)
    assert [one.numbers["cheaper_model"] for one in of_another] == ["other/near"]


def test_what_a_cache_would_have_saved() -> None:
    caching = next(one for one in advise([USE], ToolUses(), LISTED) if one.kind == "caching")
    assert caching.saves_micros == 30_000 * 9  # micro-dollars a token: 10 less 1
    assert "caching" not in kinds(replace(USE, repeated=100))
    # What answers may name the day it was made on.
    assert kinds(replace(USE, model="maker/large-2026-08-06"))["caching"] == 270_000


def test_few_rows_say_nothing() -> None:
    tools = ToolUses((ToolUse("read_file", calls=9, prompt_tokens=90_000),))
    assert set(kinds(USE, tools)) == {"tool_output", "caching", "cheaper_model"}
    assert kinds(replace(USE, calls=19), tools) == {}
    assert advise([], tools, LISTED) == ()
    assert kinds(replace(USE, micros=0, repeated=0)) == {}


def test_tool_output_has_its_share_of_the_prompts() -> None:
    uses = (ToolUse("read_file", 9, output_chars=8_000, prompt_tokens=30_000), ToolUse("run_shell", 1, prompt_tokens=5))
    said = next(one for one in advise([USE], ToolUses(uses), ()) if one.kind == "tool_output")
    assert said.text.startswith("About 30 % of the prompt tokens")
    assert (said.numbers["output_prompt_tokens_estimate"], said.numbers["top_tool"]) == (30_005, "read_file")
    few = (ToolUse("read_file", 4, prompt_tokens=30_000),)
    little = (ToolUse("read_file", 9, prompt_tokens=24_999),)
    much = (ToolUse("read_file", 9, prompt_tokens=900_000),)
    assert advise([USE], ToolUses(few), ()) == advise([USE], ToolUses(little), ()) == ()
    assert "About 100 %" in advise([USE], ToolUses(much), ())[0].text
