"""Money: counters are whole micro-dollars, prices are exact decimals. Floats never hold money."""

from decimal import ROUND_CEILING, Decimal

MICROS_PER_USD = 1_000_000


def to_micros(usd: Decimal) -> int:
    """Dollars to micro-dollars, rounded up, so that a counter never says less than was spent."""
    return int((usd * MICROS_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def format_usd(micros: int) -> str:
    """`$0.001234`: six places below a dollar, where a turn lives, two above."""
    places = 6 if abs(micros) < MICROS_PER_USD else 2
    return f"${Decimal(micros) / MICROS_PER_USD:.{places}f}"
