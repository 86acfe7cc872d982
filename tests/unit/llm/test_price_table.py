"""Prices that Greenroom brings: by the server that sells a model, and at its dearest."""

from decimal import Decimal

import pytest

from actors.llm.price_table import PriceTable

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("base_url", "gateway", "model"),
    [
        ("https://api.openai.com/v1", False, "gpt-4o"),
        ("https://openrouter.ai/api/v1", False, "openai/gpt-4o"),
        ("http://127.0.0.1:8900/v1", True, "openai/gpt-4o"),
    ],
    ids=["its maker", "a gateway", "a gateway elsewhere"],
)
def test_a_model_of_a_server_that_is_known(clock, base_url, gateway, model):
    found = PriceTable(base_url, gateway=gateway, clock=clock)(model)
    assert found is not None
    assert (found.id, found.prompt_usd, found.completion_usd) == (
        model,
        Decimal("2.5") / MILLION,
        Decimal(10) / MILLION,
    )
    assert found.price_source == "fallback"


@pytest.mark.parametrize(
    ("base_url", "model"),
    [("http://localhost:11434/v1", "gpt-4o"), ("https://api.openai.com/v1", "gpt-nonsense")],
    ids=["a local server", "a model of nobody's"],
)
def test_nothing_is_said_of_what_is_not_known(clock, base_url, model):
    assert PriceTable(base_url, gateway=False, clock=clock)(model) is None


def test_of_prices_that_rise_with_the_prompt_the_highest(clock):
    table = PriceTable("https://openrouter.ai/api/v1", gateway=False, clock=clock)
    found = table("anthropic/claude-sonnet-4.5")
    assert found is not None
    assert (found.prompt_usd, found.completion_usd) == (Decimal(6) / MILLION, Decimal("22.5") / MILLION)
