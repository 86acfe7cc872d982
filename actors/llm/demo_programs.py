"""The demo model's little arithmetic: a question in words becomes a Python program, or None."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from .demo_arithmetic import expression_in

_DIGITS_LIMIT_OFF = "import sys\nsys.set_int_max_str_digits(0)\n"


@dataclass(frozen=True, slots=True)
class Program:
    """Python source that prints one thing. `says` is the sentence about it, with `{}` for what it printed."""

    code: str
    says: str


def program_for(text: str) -> Program | None:
    """A program that answers `text`, if it is one of the questions that can be translated."""
    for pattern, build in _LISTS:
        if match := pattern.search(text):
            return build(match)
    plain = _without_separators(text)
    for pattern, build in _QUESTIONS:
        if match := pattern.search(plain):
            return build(match)
    expression = expression_in(plain)
    if expression is None:
        return None
    code = f"print({expression})"
    return Program(_DIGITS_LIMIT_OFF + code if "**" in expression else code, f"{expression} = {{}}")


def _without_separators(text: str) -> str:
    """`1,000` as `1000`, `the tenth` as `the 10th`, `a thousand` as `1000`."""
    text = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", lambda found: found[0].replace(",", ""), text)
    return _NUMBER_WORD.sub(lambda found: _NUMBERS[found[1].lower()], text)


_NUMBERS = {
    **{word: f"{n}th" for n, word in enumerate(("fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"), 4)},
    "twentieth": "20th",
    "hundredth": "100th",
    "ten": "10",
    "twenty": "20",
    "fifty": "50",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
}
_NUMBER_WORD = re.compile(rf"\b(?:(?:a|one) )?({'|'.join(_NUMBERS)})\b", re.IGNORECASE)
_BELOW = r"(?:below|under|up to|less than|smaller than|before)"
_OF_PRIMES = r"(?:sum|number|count) (?:of )?|how many |list |show |"
_SIEVE = "primes = [n for n in range(2, {stop}) if all(n % d for d in range(2, int(n**0.5) + 1))]\n"


def _ordinal(number: str) -> str:
    suffix = "th" if number[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
    return number + suffix


def _fibonacci(match: re.Match[str]) -> Program:
    number = match[1] or match[2]
    code = f"a, b = 0, 1\nfor _ in range({int(number)}):\n    a, b = b, a + b\nprint(a)"
    return Program(_long_integers(code, int(number)), f"The {_ordinal(number)} Fibonacci number is {{}}.")


def _first_fibonaccis(match: re.Match[str]) -> Program:
    code = f"a, b = 0, 1\nfor _ in range({int(match[1])}):\n    print(b, end=' ')\n    a, b = b, a + b"
    return Program(code, f"The first {match[1]} Fibonacci numbers: {{}}")


def _factorial(match: re.Match[str]) -> Program:
    number = int(match[1] or match[2])
    return Program(
        _long_integers(f"import math\nprint(math.factorial({number}))", number), f"The factorial of {number} is {{}}."
    )


def _long_integers(code: str, size: int) -> str:
    """Python prints no integer of more than 4,300 digits unless it is told to."""
    return _DIGITS_LIMIT_OFF + code if size > 1000 else code


def _primes_below(match: re.Match[str]) -> Program:
    asked, bound, limit = match[1].lower(), match[2].lower(), int(match[3])
    sieve = _SIEVE.format(stop=limit + (bound == "up to"))
    if asked.startswith("sum"):
        return Program(f"{sieve}print(sum(primes))", f"The sum of the primes {bound} {limit} is {{}}.")
    if asked.startswith(("how many", "count", "number")):
        return Program(f"{sieve}print(len(primes))", f"There are {{}} primes {bound} {limit}.")
    return Program(f"{sieve}print(*primes)", f"The primes {bound} {limit}: {{}}")


def _first_primes(match: re.Match[str]) -> Program:
    count = match[1] or match[2]
    code = (
        "primes = []\nn = 2\n"
        f"while len(primes) < {int(count)}:\n"
        "    if all(n % p for p in primes if p * p <= n):\n        primes.append(n)\n    n += 1\n"
    )
    if match[1]:
        return Program(f"{code}print(*primes)", f"The first {count} primes: {{}}")
    return Program(f"{code}print(primes[-1])", f"The {_ordinal(count)} prime is {{}}.")


def _is_prime(match: re.Match[str]) -> Program:
    number = int(match[1])
    code = (
        f"n = {number}\nprime = n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))\n"
        "print('prime' if prime else 'not prime')"
    )
    return Program(code, f"{number} is {{}}.")


def _factors(match: re.Match[str]) -> Program:
    code = (
        f"n, d, factors = {int(match[1])}, 2, []\n"
        "while d * d <= n:\n    while n % d == 0:\n        factors.append(d)\n        n //= d\n    d += 1\n"
        "print(*factors, *([n] if n > 1 else []), sep=' x ')"
    )
    return Program(code, f"{match[1]} = {{}}")


def _divisors(match: re.Match[str]) -> Program:
    function = "gcd" if match[1].lower() in ("gcd", "greatest common divisor") else "lcm"
    code = f"import math\nprint(math.{function}({int(match[2])}, {int(match[3])}))"
    return Program(code, f"The {match[1].lower()} of {match[2]} and {match[3]} is {{}}.")


def _root(match: re.Match[str]) -> Program:
    return Program(f"import math\nprint(math.sqrt({match[1]}))", f"The square root of {match[1]} is {{}}.")


def _percent(match: re.Match[str]) -> Program:
    return Program(f"print({match[1]} * {match[2]} / 100)", f"{match[1]} % of {match[2]} is {{}}.")


def _range_sum(match: re.Match[str]) -> Program:
    power = {"square": "**2", "cube": "**3"}.get((match[1] or "").lower().rstrip("s"), "")
    code = f"print(sum(n{power} for n in range({int(match[2])}, {int(match[3])} + 1)))"
    return Program(code, f"The sum of the {match[1] or 'numbers'} from {match[2]} to {match[3]} is {{}}.")


def _time(_: re.Match[str]) -> Program:
    code = "from datetime import datetime, timezone\nprint(datetime.now(timezone.utc).strftime('%A, %Y-%m-%d %H:%M'))"
    return Program(code, "The clock of the sandbox says {} UTC.")


_STATISTICS = {
    "mean": "statistics.mean(numbers)",
    "average": "statistics.mean(numbers)",
    "median": "statistics.median(numbers)",
    "standard deviation": "statistics.stdev(numbers)",
    "variance": "statistics.variance(numbers)",
    "product": "math.prod(numbers)",
    "maximum": "max(numbers)",
    "max": "max(numbers)",
    "largest": "max(numbers)",
    "minimum": "min(numbers)",
    "min": "min(numbers)",
    "smallest": "min(numbers)",
    "sum": "sum(numbers)",
    "sort": "*sorted(numbers)",
}


def _statistic(match: re.Match[str]) -> Program:
    name = match[1].lower()
    numbers = ", ".join(re.findall(r"-?(?!0\d)\d+(?:\.\d+)?", match[2]))
    module = _STATISTICS[name].partition(".")[0]
    imported = f"import {module}\n" if module in ("statistics", "math") else ""
    said = "Sorted: {}" if name == "sort" else f"The {name} of {numbers} is {{}}."
    return Program(f"{imported}numbers = [{numbers}]\nprint({_STATISTICS[name]})", said)


_Builder = Callable[[re.Match[str]], Program]
_NUMBER = r"-?\d+(?:\.\d+)?"
_LISTS: list[tuple[re.Pattern[str], _Builder]] = [
    (
        re.compile(
            rf"\b({'|'.join(_STATISTICS)})\b[\s:]*(?:(?:of|the|these|following|numbers|values|list)\b[\s:]*)*[\[(]?\s*"
            rf"({_NUMBER}(?:(?:\s*[,;]\s*(?:and\s+)?|\s+and\s+){_NUMBER})+)",
            re.IGNORECASE,
        ),
        _statistic,
    )
]
_QUESTIONS: list[tuple[re.Pattern[str], _Builder]] = [
    (re.compile(pattern, re.IGNORECASE), build)
    for pattern, build in (
        (r"\bfirst (\d+) fibonacci", _first_fibonaccis),
        (r"\b(\d+)(?:st|nd|rd|th)? fibonacci|\bfibonacci(?: number)?(?: of| no\.?)? ?\(?(\d+)", _fibonacci),
        (r"\bfactorial (?:of )?(\d+)|\b(\d+) ?(?:!(?!=)|factorial\b)", _factorial),
        (
            rf"\b({_OF_PRIMES})(?:all |the )*(?:prime numbers|primes)(?: are| are there)? ({_BELOW}) (\d+)",
            _primes_below,
        ),
        (r"\bfirst (\d+) primes?\b|\b(\d+)(?:st|nd|rd|th) prime\b", _first_primes),
        (r"\bis (\d+) (?:a )?prime", _is_prime),
        (r"\b(?:prime )?(?:factors of|factori[sz]e) (\d+)", _factors),
        (
            r"\b(gcd|lcm|greatest common divisor|least common multiple) of (\d+) and (\d+)",
            _divisors,
        ),
        (r"\bsquare root of (\d+(?:\.\d+)?)", _root),
        (r"(?<![\d.])(\d+(?:\.\d+)?) ?(?:%|percent) of (\d+(?:\.\d+)?)", _percent),
        (r"\bsum of (?:all |the )*(numbers|integers|squares|cubes)? ?from (\d+) to (\d+)", _range_sum),
        (r"\bwhat (?:time|day|date) is it|what is the (?:time|date)|what is today'?s date", _time),
    )
]
