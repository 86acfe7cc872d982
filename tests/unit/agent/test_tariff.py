"""The arithmetic of what tools cost: a hold is never too small, and micro-dollars are rounded up once."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from actors.agent.tariff import Tariff
from actors.core.money import to_micros

SECONDS = st.floats(0, 10_000, allow_nan=False)
TARIFFS = st.builds(
    Tariff,
    sandbox_second=st.decimals(0, 10_000, allow_nan=False, places=4),
    by_cpu=st.booleans(),
    cpus=st.floats(0.1, 64),
    command_s=st.floats(0.1, 3600),
    tools=st.fixed_dictionaries({}, optional={"run_shell": st.integers(0, 10**9)}),
    embedding=st.integers(0, 10**9),
)


@given(TARIFFS, st.sampled_from(["tool", "sandbox", "embedding"]), SECONDS, st.floats(0, 1))
def test_a_call_that_keeps_its_limits_costs_no_more_than_is_held(tariff, kind, timeout_s, share):
    seconds = tariff.longest(timeout_s) * share
    assert 0 <= to_micros(tariff.cost(kind, "run_shell", seconds)) <= tariff.at_most(kind, "run_shell", timeout_s)


@given(st.sampled_from(["tool", "sandbox", "embedding"]), SECONDS)
def test_everything_is_free_until_the_operator_says_otherwise(kind, seconds):
    assert Tariff().at_most(kind, "run_shell", seconds) == 0


def test_seconds_calls_and_texts_have_prices_of_their_own():
    tariff = Tariff(Decimal("1.5"), tools={"run_shell": 100}, embedding=7)
    assert tariff.cost("sandbox", "run_shell", 2.5) == Decimal("0.00010375")
    assert tariff.cost("tool", "run_shell", 2.5) == Decimal("0.0001")
    assert tariff.cost("tool", "other", 2.5) == 0
    assert tariff.cost("embedding", "e5", 2.5) == Decimal("0.000007")


def test_of_several_processors_a_second_is_as_many_seconds():
    assert Tariff(Decimal(1), by_cpu=True, cpus=4, command_s=10).at_most("sandbox", "run_shell", 60) == 40
    assert Tariff(Decimal(1), by_cpu=False, cpus=4, command_s=10).at_most("sandbox", "run_shell", 60) == 10
