"""The list of models: cached, read once at a time, and a source of prices."""

import asyncio
from decimal import Decimal

import pytest

from actors.core import telemetry
from actors.core.errors import ModelUnavailable
from actors.core.messages import AssistantMessage, Usage
from actors.llm.base import Answer, ModelInfo
from actors.llm.catalogue import ModelCatalogue

LIST = {
    "data": [
        {
            "id": "openai/gpt-4o",
            "name": "GPT-4o",
            "context_length": 128000,
            "pricing": {"prompt": "0.0000025", "completion": "0.00001", "image": "0.003"},
        },
        {"id": "openrouter/auto", "pricing": {"prompt": "-1", "completion": "-1"}},
        {"id": "llama3:latest", "max_model_len": 8192},
        {"id": "free/one", "pricing": {"prompt": "0", "completion": "0"}},
        {"name": "no id"},
        "not an object",
    ]
}


class Source:
    def __init__(self):
        self.reads = 0
        self.body = LIST
        self.broken = False

    async def __call__(self):
        self.reads += 1
        await asyncio.sleep(0)
        if self.broken:
            raise ModelUnavailable("down")
        return self.body


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def catalogue(source, clock) -> ModelCatalogue:
    return ModelCatalogue(source, clock=clock, fresh_s=100)


def answer(model: str, usage: Usage, cost_usd: Decimal | None = None) -> Answer:
    return Answer(AssistantMessage("x"), model, "stop", usage=usage, cost_usd=cost_usd)


async def test_what_is_listed(catalogue, clock):
    now = clock.now()
    assert await catalogue.models() == (
        ModelInfo("openai/gpt-4o", "GPT-4o", 128000, Decimal("0.0000025"), Decimal("0.00001"), listed_at=now),
        ModelInfo("openrouter/auto", "openrouter/auto", price_varies=True, listed_at=now),
        ModelInfo("llama3:latest", "llama3:latest", 8192, listed_at=now),
        ModelInfo("free/one", "free/one", None, Decimal(0), Decimal(0), listed_at=now),
    )


async def test_the_age_of_an_old_list_is_known(catalogue, source, clock):
    read_at = clock.now()
    await catalogue.models()
    source.broken = True
    clock.advance(1000)
    assert {model.listed_at for model in await catalogue.models()} == {read_at}
    assert telemetry.REGISTRY.get_sample_value("agent_llm_price_list_read_timestamp_seconds") == read_at.timestamp()


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}])
async def test_a_server_without_models_lists_none(catalogue, source, body):
    source.body = body
    assert await catalogue.models() == ()


async def test_read_once_while_fresh_however_many_ask(catalogue, source, clock):
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(catalogue.models())
    assert source.reads == 1
    clock.advance(99)
    await catalogue.models()
    assert source.reads == 1
    clock.advance(1)
    await catalogue.models()
    assert source.reads == 2


async def test_a_failure_is_shared_by_all_who_wait(catalogue, source):
    source.broken = True
    outcomes = await asyncio.gather(*(catalogue.models() for _ in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ModelUnavailable] * 5
    assert source.reads == 1


async def test_one_who_gives_up_does_not_end_the_read_of_the_others(catalogue, source):
    hasty, patient = (asyncio.create_task(catalogue.models()) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    assert len(await patient) == 4
    assert source.reads == 1


async def test_an_old_list_is_better_than_none(catalogue, source, clock):
    await catalogue.models()
    source.broken = True
    clock.advance(100)
    assert len(await catalogue.models()) == 4
    assert len(await catalogue.models()) == 4
    assert source.reads == 2


async def test_no_list_at_all_is_an_error_and_is_tried_again_some_seconds_later(catalogue, source, clock):
    source.broken = True
    with pytest.raises(ModelUnavailable):
        await catalogue.models()
    source.broken = False
    with pytest.raises(ModelUnavailable):
        await catalogue.models()
    assert source.reads == 1
    clock.advance(5)
    assert await catalogue.models()


@pytest.mark.parametrize(
    ("model", "listed"),
    [("openai/gpt-4o", True), ("openai/gpt-4o:nitro", True), ("llama3", True), ("gpt-4o", False), ("", False)],
)
async def test_names_with_and_without_variant(catalogue, model, listed):
    await catalogue.models()
    assert catalogue.lists(model) is listed


USAGE = Usage(prompt_tokens=1000, completion_tokens=100, cached_tokens=800)


@pytest.mark.parametrize(
    ("given", "cost", "source_of_cost"),
    [
        (answer("openai/gpt-4o", USAGE), Decimal("0.0035"), "price_list"),
        (answer("openai/gpt-4o-2026-05-13", USAGE), Decimal("0.0035"), "price_list"),
        (answer("free/one", USAGE), Decimal(0), "price_list"),
        (answer("openrouter/auto", USAGE), None, "unknown"),
        (answer("openai/gpt-4o", Usage()), None, "unknown"),
    ],
    ids=["listed", "priced as the model that was asked for", "free", "a price that changes", "no usage"],
)
async def test_a_price_from_the_list(catalogue, given, cost, source_of_cost):
    await catalogue.models()
    asked = "openai/gpt-4o" if given.model.startswith("openai/") else given.model
    priced = catalogue.priced(given, asked)
    assert (priced.cost_usd, priced.cost_source) == (cost, source_of_cost)


async def test_the_servers_own_price_is_kept(catalogue):
    await catalogue.models()
    given = answer("openai/gpt-4o", USAGE, cost_usd=Decimal(0))
    assert catalogue.priced(given, "openai/gpt-4o") is given


async def test_nothing_is_fetched_to_find_a_price(catalogue, source):
    assert catalogue.priced(answer("openai/gpt-4o", USAGE), "openai/gpt-4o").cost_usd is None
    assert source.reads == 0


def fallback(model: str) -> ModelInfo | None:
    cent = Decimal("0.01")
    return (
        ModelInfo(model, "x", prompt_usd=Decimal(0), completion_usd=cent, price_source="fallback")
        if "4" in model
        else None
    )


async def test_where_the_list_names_no_price_the_table_is_asked(source, clock):
    source.body = {"data": [{"id": "gpt-4"}, {"id": "gpt-5"}, *LIST["data"][:2]]}
    catalogue = ModelCatalogue(source, clock=clock, fresh_s=100, table=fallback)
    found = {model.id: (model.completion_usd, model.price_source) for model in await catalogue.models()}
    assert found == {
        "gpt-4": (Decimal("0.01"), "fallback"),
        "gpt-5": (None, "price_list"),
        "openai/gpt-4o": (Decimal("0.00001"), "price_list"),
        "openrouter/auto": (None, "price_list"),
    }
    for name, cost in (("gpt-4", Decimal(1)), ("unlisted-4", Decimal(1)), ("gpt-5", None)):
        priced = catalogue.priced(answer(name, USAGE), name)
        assert (priced.cost_usd, priced.cost_source) == (cost, "fallback" if cost else "unknown")
