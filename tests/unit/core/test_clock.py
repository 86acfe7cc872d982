"""Times as they leave Greenroom."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from actors.core.clock import SystemClock, rfc3339


def test_the_one_form_of_a_time() -> None:
    moment = datetime(2026, 11, 30, 10, 15, 2, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-11-30T08:15:02.123456Z"
    assert rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"


ZONES = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
MOMENTS = st.datetimes(datetime(1001, 1, 1), datetime(9000, 1, 1), timezones=ZONES)


@given(st.lists(MOMENTS, min_size=2, max_size=5))
def test_times_sort_as_text(moments: list[datetime]) -> None:
    assert sorted(map(rfc3339, moments)) == [rfc3339(moment) for moment in sorted(moments)]


def test_the_machines_clock_is_in_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)
