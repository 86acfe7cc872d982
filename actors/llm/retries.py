"""When a failed attempt is made again, and after which wait. Only ever before anything was yielded."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from .failures import Cause, UpstreamFailure

_RETRIES: dict[Cause, int] = {
    Cause.UNREACHED: 2,
    Cause.AMBIGUOUS: 1,  # it may have been billed, so once
    Cause.BUSY: 2,
    Cause.BROKEN: 2,
    Cause.GARBLED: 1,
    Cause.CREDIT: 1,  # only with the smaller answer that the server named
    Cause.QUOTA: 0,
    Cause.CREDENTIAL: 0,
    Cause.REFUSED: 0,
    Cause.UNKNOWN_MODEL: 0,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of repeated attempts. `random` gives numbers from 0 to 1 and spreads the waits.

    A server that asks for more than `longest_hint_s` is not waited for: the caller gets its wish as
    `retry_after_s` instead.
    """

    first_wait_s: float = 0.25
    longest_wait_s: float = 4.0
    longest_hint_s: float = 20.0
    smallest_answer_tokens: int = 256
    random: Callable[[], float] = random.random

    def wait_s(self, failure: UpstreamFailure, failures: int, left_s: float) -> float | None:
        """Seconds to wait after the given number of failed attempts; None is to give up.

        `left_s` is what remains of the call's time: a wait that would use it up is not begun.
        """
        if failures > _RETRIES[failure.cause]:
            return None
        if failure.cause is Cause.CREDIT:
            affordable = failure.affordable_tokens or 0
            return 0.0 if affordable >= self.smallest_answer_tokens else None
        if failure.cause is Cause.BUSY and failure.retry_after_s is not None:
            if failure.retry_after_s > self.longest_hint_s:
                return None
            wait = failure.retry_after_s + self.first_wait_s * self.random()
        else:
            wait = min(self.first_wait_s * 2 ** (failures - 1), self.longest_wait_s) * (0.5 + self.random() / 2)
        return wait if wait < left_s else None
