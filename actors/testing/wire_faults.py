"""Faults of a model server by rate and seed: which request gets one, and which one it is."""

from random import Random

from .reply import Reply
from .wire_fixtures import FIXTURES

TRANSIENT = (
    "status_408",
    "status_500",
    "status_502",
    "status_503",
    "status_524",
    "status_529",
    "rate_limited",
    "error_chunk",
    "error_chunk_without_choices",
    "bare_error",
    "partial_unstreamed",
    "error_with_200",
    "silent_failure",
    "eof_without_finish",
    "reset_before_headers",
    "reset_after_headers",
    "reset_after_tokens",
    "garbage",
)
"""Fixtures that a client should survive by asking again, or by saying that the answer broke off."""


class WireFaults:
    """One of `TRANSIENT`, for `rate` of all requests. The n-th request of a seed has always the same fate."""

    def __init__(self, rate: float, *, seed: int = 0) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"a rate of faults is from 0 to 1, not {rate:g}")
        self._rate = rate
        self._dice = Random(seed)  # noqa: S311 - a run has to repeat itself

    def draw(self) -> Reply | None:
        """The fault of the next request; None for one that is answered by the script."""
        chance, kind = self._dice.random(), self._dice.choice(TRANSIENT)
        return FIXTURES[kind].replies[0] if chance < self._rate else None
