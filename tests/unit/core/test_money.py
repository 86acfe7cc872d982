"""Money: never less than was spent, never a float."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.money import format_usd, to_micros


@pytest.mark.parametrize(
    ("usd", "micros"),
    [
        ("0", 0),
        ("1", 1_000_000),
        ("0.000001", 1),
        ("0.0000001", 1),
        ("0.0000010000000001", 2),
        ("0.1234561", 123_457),
        ("12345.678901", 12_345_678_901),
        ("1E-30", 1),
    ],
)
def test_dollars_become_whole_micro_dollars_rounded_up(usd: str, micros: int) -> None:
    assert to_micros(Decimal(usd)) == micros


@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=18))
def test_a_counter_never_says_less_than_was_spent_nor_a_micro_dollar_more(usd: Decimal) -> None:
    exact = Fraction(usd) * 1_000_000
    assert exact <= to_micros(usd) < exact + 1


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "$0.000000"), (1, "$0.000001"), (999_999, "$0.999999"), (1_000_000, "$1.00"), (12_345_678, "$12.35")],
)
def test_money_is_shown_with_the_places_that_matter(micros: int, text: str) -> None:
    assert format_usd(micros) == text
