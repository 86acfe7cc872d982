"""Other models, breakers and look-ups: what the client does beside asking once more."""

import asyncio
from contextlib import aclosing
from decimal import Decimal

import pytest

from actors.core.errors import InvalidInput, ModelRefused, ModelUnavailable
from actors.core.messages import AssistantMessage, Usage, UserMessage
from actors.llm.base import Began, ModelRequest, Resending, Retrying
from actors.llm.breakers import BreakerPolicy, Breakers, State
from actors.llm.chat_request import OPENROUTER_DIALECT, MaxPrice
from actors.llm.preferences import Preferences
from actors.testing import Reply, ScriptedModelApp, StreamingASGITransport

BUSY = {"error": {"message": "busy", "code": 503}}
DETAIL = {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}
REQUEST = ModelRequest(
    "a", (UserMessage("hi"), AssistantMessage("ho", reasoning_details=(DETAIL,)), UserMessage("hi")), user_ref="user_1"
)


@pytest.fixture
def breakers(clock) -> Breakers:
    return Breakers(BreakerPolicy(min_calls=3, open_s=5), clock=clock)


@pytest.fixture
def gateway(make_client, breakers):
    def make(**options):
        return make_client(dialect=OPENROUTER_DIALECT, breakers=breakers, **options)

    return make


# Other models ---------------------------------------------------------------------------------------


async def test_a_gateway_is_told_of_other_models_and_the_highest_price(gateway, ask, upstream, whole):
    upstream.stream(*whole)
    client = gateway(fallbacks=("a", "b", "c"), max_price=MaxPrice(Decimal("1.5"), Decimal(6)))
    assert (await ask(client, REQUEST)).answer
    sent = upstream.sent()
    assert (sent["model"], sent["models"]) == ("a", ["a", "b", "c"])
    assert sent["provider"] == {"max_price": {"prompt": 1.5, "completion": 6}}
    assert sent["max_completion_tokens"] == 4096


async def test_a_gateway_learns_pseudonyms_only(gateway, ask, upstream, whole):
    for _ in range(2):
        upstream.stream(*whole)
        await ask(gateway(), REQUEST)
    assert upstream.sent(0)["user"] == upstream.sent(1)["user"]
    assert "user_1" not in upstream.requests[0].content.decode()
    assert "models" not in upstream.sent()
    assert "provider" not in upstream.sent()


async def test_elsewhere_the_client_falls_back_itself(make_client, ask, upstream, whole):
    for _ in range(3):
        upstream.json(503, BUSY)
    upstream.stream(*whole)
    outcome = await ask(make_client(fallbacks=("b",)), REQUEST)
    assert outcome.answer.message.content == "Hello"
    assert [upstream.sent(n)["model"] for n in range(4)] == ["a", "a", "a", "b"]
    assert "reasoning_details" in str(upstream.sent(0))
    assert "reasoning_details" not in str(upstream.sent(3)), "signed by another model"
    assert "models" not in upstream.sent(3)
    told = [item for item in outcome.items if isinstance(item, Retrying | Resending)]
    assert told == [Retrying("model_unavailable", free=True), Resending()] * 3


@pytest.mark.parametrize("status", [400, 401, 402, 413])
async def test_what_is_our_fault_is_asked_of_no_other_model(make_client, ask, upstream, status):
    upstream.json(status, {"error": {"message": "no", "code": status}})
    assert isinstance((await ask(make_client(fallbacks=("b",)), REQUEST)).error, ModelRefused)
    assert len(upstream.requests) == 1


async def test_a_model_that_is_too_dear_is_not_asked(make_client, ask, upstream, whole):
    listed = [{"id": "b", "pricing": {"prompt": "0.00001", "completion": "0"}}, {"id": "c"}, {"id": "a"}]
    client = make_client(fallbacks=("b", "c"), max_price=MaxPrice(prompt_usd=Decimal(5)))
    upstream.json(200, {"data": listed})
    await client.models()
    upstream.json(404, {"error": {"message": "No endpoints found", "code": 404}})
    upstream.stream(*whole)
    assert (await ask(client, REQUEST)).answer
    assert upstream.sent()["model"] == "c"


async def test_nothing_falls_back_once_text_was_given(make_client, ask, upstream, event):
    upstream.stream(event(content="Hel"))
    outcome = await ask(make_client(fallbacks=("b",)), REQUEST)
    assert (outcome.text, len(upstream.requests)) == ("Hel", 1)


# Breakers -------------------------------------------------------------------------------------------


async def test_a_model_that_fails_is_left_alone_and_tried_again_by_one_call(gateway, ask, upstream, whole, clock):
    client = gateway()
    for _ in range(3):
        upstream.json(503, BUSY)
    assert (await ask(client, REQUEST)).error
    refused = (await ask(client, REQUEST)).error
    assert isinstance(refused, ModelUnavailable)
    assert refused.retryable
    assert refused.details["breaker"] == "model:a"
    assert 0 < refused.details["retry_after_s"] <= 5
    assert (refused.details["not_sent"], refused.details["free"]) == (True, True)
    assert len(upstream.requests) == 3, "nothing was sent"
    clock.advance(5)
    upstream.stream(*whole)
    assert (await ask(client, REQUEST)).answer
    upstream.stream(*whole)
    assert (await ask(client, REQUEST)).answer


async def test_another_model_is_asked_while_one_is_left_alone(gateway, ask, upstream, whole, breakers):
    client = gateway(fallbacks=("b",))
    breakers.trip(("model", "a"))
    upstream.stream(*whole)
    assert (await ask(client, REQUEST)).answer
    assert upstream.sent()["model"] == "b"


async def test_the_probe_is_given_back_when_its_call_is_cancelled(gateway, ask, upstream, whole, breakers, clock):
    client = gateway()
    breakers.trip(("model", "a"))
    clock.advance(5)
    upstream.stream(asyncio.Event().wait)
    task = asyncio.ensure_future(anext(client.stream(REQUEST)))
    for _ in range(30):
        await asyncio.sleep(0)
    assert (await ask(client, REQUEST)).error.details["cause"] == "breaker_open", "one at a time"
    task.cancel()
    await asyncio.wait([task])
    upstream.stream(*whole)
    assert (await ask(client, REQUEST)).answer


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
async def test_requests_that_are_wrong_open_nothing(gateway, ask, upstream, breakers, status):
    client = gateway()
    for _ in range(10):
        upstream.json(status, {"error": {"message": "no", "code": status}})
        await ask(client, REQUEST)
    assert set(breakers.states().values()) == {State.CLOSED}


async def test_the_daily_quota_opens_nothing(gateway, ask, upstream, breakers):
    for _ in range(5):
        upstream.json(429, {"error": {"message": "Rate limit exceeded: free-models-per-day. ", "code": 429}})
        await ask(gateway(), REQUEST)
    assert set(breakers.states().values()) == {State.CLOSED}


@pytest.mark.parametrize(("status", "key"), [(401, "credential"), (402, "account")])
async def test_a_key_or_an_account_that_is_refused_is_not_tried_with_other_models(gateway, ask, upstream, status, key):
    upstream.json(status, {"error": {"message": "no", "code": status}})
    await ask(gateway(), REQUEST)
    refused = (await ask(gateway(), ModelRequest("z", (UserMessage("hi"),)))).error
    assert refused.details["breaker"] == f"{key}:model.test"
    assert len(upstream.requests) == 1


async def test_a_provider_that_is_blamed_is_left_out(gateway, ask, upstream, whole, clock):
    client = gateway()
    metadata = {"previous_errors": [{"provider": "Acme", "code": "capacity_exhausted", "status": 429}]}
    for model in "bcd":
        error = {"message": "full", "code": 429, "metadata": metadata, "availability": {"retry_after": 60}}
        upstream.json(429, {"error": error})
        await ask(client, ModelRequest(model, (UserMessage("hi"),)))
    upstream.stream(*whole)
    await ask(client, REQUEST)
    assert upstream.sent()["provider"] == {"ignore": ["Acme"]}
    clock.advance(6)
    upstream.stream(*whole)
    await ask(client, REQUEST)
    assert "provider" not in upstream.sent(), "it may be tried again"


# Records --------------------------------------------------------------------------------------------


@pytest.fixture
def looking(gateway, clock):
    """A client of a scripted gateway, and the gateway."""
    app = ScriptedModelApp(
        [Reply(text=("a", "b", "c"), cut_after=3, ending="hang", lookup_misses=3, stops_on_abort=True)], clock=clock
    )
    return gateway(transport=StreamingASGITransport(app)), app


async def test_what_a_call_that_was_broken_off_has_cost(looking, drive, clock):
    client, app = looking
    async with aclosing(client.stream(REQUEST)) as items:
        began = await anext(items)
        await anext(items)
    assert isinstance(began, Began)
    assert app.bill.disconnects == 1
    record = await drive(client.generation(began.generation_id))
    assert (record.cost_usd, record.cancelled) == (app.bill.cost_usd, True)
    assert record.usage == Usage(app.bill.prompt_tokens, app.bill.completion_tokens)
    assert (record.model, record.provider) == ("a", "Scripted")
    assert 3 <= clock.monotonic() <= 6, "it was not there at once"


async def test_a_record_that_does_not_come(looking, drive, clock):
    client, _ = looking
    assert await drive(client.generation("gen-unknown", within_s=10)) is None
    assert 10 <= clock.monotonic() < 12


async def test_only_a_gateway_keeps_records(client, upstream):
    assert await client.generation("gen-1") is None
    assert upstream.requests == []


async def test_records_that_cannot_be_read(gateway, upstream):
    upstream.json(500, {"error": {"message": "no", "code": 500}})
    with pytest.raises(ModelUnavailable, match="the record cannot be read"):
        await gateway().generation("gen-1")


# What an operator wishes ------------------------------------------------------------------------------


async def test_a_gateway_is_told_who_may_see_prompts(gateway, ask, upstream, whole):
    wished = Preferences("low", only=("x", "y"), order=("y",), no_collection=True, no_retention=True)
    upstream.stream(*whole)
    await ask(gateway(preferences=wished, max_price=MaxPrice(prompt_usd=Decimal(2))), REQUEST)
    sent = upstream.sent()
    assert sent["reasoning"] == {"effort": "low"}
    assert sent["provider"] == {
        "only": ["x", "y"],
        "order": ["y"],
        "data_collection": "deny",
        "zdr": True,
        "max_price": {"prompt": 2},
    }


async def test_elsewhere_only_the_effort_is_said(make_client, ask, upstream, whole):
    upstream.stream(*whole)
    await ask(make_client(preferences=Preferences("high")), REQUEST)
    assert upstream.sent()["reasoning_effort"] == "high"
    assert {"provider", "reasoning"}.isdisjoint(upstream.sent())


@pytest.mark.parametrize(
    "unheard",
    [
        Preferences(only=("x",)),
        Preferences(order=("x",)),
        Preferences(no_collection=True),
        Preferences(no_retention=True),
    ],
)
async def test_a_wish_that_would_not_be_heard_is_an_error(make_client, unheard):
    with pytest.raises(InvalidInput, match="GREENROOM_LLM_DIALECT=openrouter"):
        make_client(preferences=unheard)
