"""Days, weeks and months of a report, in UTC: whole ones, which tile the time between two moments."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from ..core.errors import InvalidInput

Period: TypeAlias = Literal["daily", "weekly", "monthly"]

SHOWN: dict[Period, int] = {"daily": 30, "weekly": 12, "monthly": 12}
"""Periods of a report whose beginning nobody named."""

MOST: dict[Period, int] = {"daily": 400, "weekly": 160, "monthly": 36}
"""Periods that one report may have: about three years at most."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """The periods of a report. `begins` holds the first moment of each, `end` is the first moment after the last."""

    period: Period
    begins: tuple[datetime, ...]
    end: datetime

    @property
    def begin(self) -> datetime:
        return self.begins[0]

    @property
    def ends(self) -> tuple[datetime, ...]:
        """The first moment after each period."""
        return (*self.begins[1:], self.end)


def begin_of(period: Period, moment: datetime) -> datetime:
    """The first moment of the period that holds `moment`. Weeks begin on Monday."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case "daily":
            return day
        case "weekly":
            return day - day.weekday() * _DAY
        case _:
            return day.replace(day=1)


def end_of(period: Period, begin: datetime) -> datetime:
    """The first moment after the period that begins then."""
    match period:
        case "daily":
            return begin + _DAY
        case "weekly":
            return begin + 7 * _DAY
        case _:
            return (begin + 32 * _DAY).replace(day=1)


def span_of(period: Period, now: datetime, *, since: datetime | None = None, until: datetime | None = None) -> Span:
    """The periods that touch the time from `since` to before `until`; by default some up to the one of `now`.

    Raises `InvalidInput` when there is none, or when there are too many.
    """
    try:
        return _span(period, now, since, until)
    except OverflowError:
        raise InvalidInput("the calendar does not reach so far") from None


def _span(period: Period, now: datetime, since: datetime | None, until: datetime | None) -> Span:
    last = begin_of(period, now if until is None else until - timedelta(microseconds=1))
    begin = _back(period, last, SHOWN[period] - 1) if since is None else begin_of(period, since)
    if begin > last or (since is not None and until is not None and since >= until):
        raise InvalidInput("a report begins before it ends")
    begins = [begin]
    while begins[-1] < last:
        if len(begins) == MOST[period]:
            raise InvalidInput(
                f"a {period} report has {MOST[period]} periods at most; begin it later, or take longer ones"
            )
        begins.append(end_of(period, begins[-1]))
    return Span(period, tuple(begins), end_of(period, last))


def _back(period: Period, begin: datetime, times: int) -> datetime:
    for _ in range(times):
        begin = begin_of(period, begin - _DAY)
    return begin
