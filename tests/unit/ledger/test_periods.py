"""Periods tile the time of a report, and groups and slices sum up to its total."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.core.errors import InvalidInput
from actors.core.messages import Usage
from actors.ledger.periods import MOST, SHOWN, Period, begin_of, span_of
from actors.ledger.sums import Group, Sums, sliced, with_others

PERIODS: list[Period] = ["daily", "weekly", "monthly"]
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))
NOW = datetime(2026, 11, 28, 11, 30, tzinfo=UTC)


@given(period=st.sampled_from(PERIODS), since=MOMENTS, length=st.timedeltas(timedelta(microseconds=1), timedelta(300)))
def test_periods_tile_the_time(period: Period, since: datetime, length: timedelta) -> None:
    until = since + length
    span = span_of(period, NOW, since=since, until=until)
    assert span.begin <= since < span.ends[0]
    assert span.begins[-1] < until <= span.end
    assert span.ends[:-1] == span.begins[1:]
    assert all(
        begin < end and begin_of(period, begin) == begin for begin, end in zip(span.begins, span.ends, strict=True)
    )
    assert all(
        begin_of(period, end - timedelta(microseconds=1)) == begin
        for begin, end in zip(span.begins, span.ends, strict=True)
    )


@pytest.mark.parametrize(
    ("period", "first", "last"),
    [
        ("daily", datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 28, tzinfo=UTC)),
        ("weekly", datetime(2026, 9, 7, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("monthly", datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_by_default_it_ends_with_the_period_of_now(period: Period, first: datetime, last: datetime) -> None:
    span = span_of(period, NOW)
    assert (span.begin, span.begins[-1], len(span.begins)) == (first, last, SHOWN[period])


def test_a_span_without_end_is_refused() -> None:
    with pytest.raises(InvalidInput, match="400 periods"):
        span_of("daily", NOW, since=NOW - timedelta(days=MOST["daily"]))
    assert len(span_of("daily", NOW, since=NOW - timedelta(days=MOST["daily"] - 1)).begins) == MOST["daily"]
    for until in (NOW, NOW - timedelta(days=1)):
        with pytest.raises(InvalidInput, match="begins before"):
            span_of("daily", NOW, since=NOW, until=until)


COUNT = st.integers(0, 10**12)
SUMS = st.builds(Sums, *[COUNT] * 6, st.builds(Usage, *[COUNT] * 4))
DAYS = st.integers(0, 89).map(lambda days: datetime(2026, 9, 1, tzinfo=UTC) + timedelta(days=days))


@given(period=st.sampled_from(PERIODS), rows=st.lists(st.tuples(DAYS, st.sampled_from(["a", "b", None]), SUMS)))
def test_slices_and_groups_sum_up_to_the_total(period: Period, rows: list[tuple[datetime, str | None, Sums]]) -> None:
    span = span_of(period, NOW, since=datetime(2026, 9, 1, tzinfo=UTC), until=datetime(2026, 11, 30, tzinfo=UTC))
    total = sum((sums for _, _, sums in rows), Sums())
    slices = sliced(span, rows)
    assert [(one.begin, one.end) for one in slices] == list(zip(span.begins, span.ends, strict=True))
    assert sum((one.sums for one in slices), Sums()) == total
    for one in slices:
        assert sum((group.sums for group in one.groups), Sums()) == one.sums
        assert one.sums == sum((sums for day, _, sums in rows if one.begin <= day < one.end), Sums())


@given(named=st.lists(SUMS, max_size=4), rest=SUMS)
def test_what_is_not_named_is_the_others(named: list[Sums], rest: Sums) -> None:
    total = sum(named, rest)
    groups = with_others([Group(str(at), sums) for at, sums in enumerate(named)], total)
    assert sum((group.sums for group in groups), Sums()) == total
    assert (groups[-1:] == (Group(None, rest),)) == (rest != Sums())
