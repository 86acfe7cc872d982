"""How often and when a failed attempt is made again."""

import pytest

from actors.llm.failures import Cause, UpstreamFailure
from actors.llm.retries import RetryPolicy

POLICY = RetryPolicy(first_wait_s=1.0, longest_wait_s=3.0, longest_hint_s=20.0, random=lambda: 1.0)


def waits(cause: Cause, *, policy: RetryPolicy = POLICY, left_s: float = 1000.0, **members) -> list[float]:
    """The waits before each new attempt, until there is none."""
    failure = UpstreamFailure(cause, "why", **members)
    made: list[float] = []
    while (wait := policy.wait_s(failure, len(made) + 1, left_s)) is not None:
        made.append(wait)
        assert len(made) < 10, "a retry without a limit"
    return made


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause.UNREACHED, [1.0, 2.0]),
        (Cause.AMBIGUOUS, [1.0]),
        (Cause.BUSY, [1.0, 2.0]),
        (Cause.BROKEN, [1.0, 2.0]),
        (Cause.GARBLED, [1.0]),
        (Cause.CREDIT, []),
        (Cause.QUOTA, []),
        (Cause.CREDENTIAL, []),
        (Cause.REFUSED, []),
        (Cause.UNKNOWN_MODEL, []),
    ],
)
def test_limits_and_backoff(cause, expected):
    assert waits(cause) == expected


def test_jitter_spreads_the_wait_over_its_upper_half():
    low = RetryPolicy(first_wait_s=1.0, random=lambda: 0.0)
    assert waits(Cause.BROKEN, policy=low) == [0.5, 1.0]


def test_the_servers_wish_is_honoured_and_never_undercut():
    assert waits(Cause.BUSY, retry_after_s=10.0) == [11.0, 11.0]
    assert waits(Cause.BUSY, retry_after_s=10.0, policy=RetryPolicy(random=lambda: 0.0)) == [10.0, 10.0]


def test_a_wish_beyond_the_cap_is_not_waited_for():
    assert waits(Cause.BUSY, retry_after_s=21.0) == []


def test_a_wait_that_would_use_up_the_time_is_not_begun():
    assert waits(Cause.BROKEN, left_s=1.5) == [1.0]
    assert waits(Cause.BROKEN, left_s=0.0) == []


def test_too_little_credit_is_tried_once_more_with_a_smaller_answer():
    assert waits(Cause.CREDIT, affordable_tokens=256) == [0.0]
    assert waits(Cause.CREDIT, affordable_tokens=255) == []
