"""What a call asks next: which model, with how many tokens, and after which wait."""

from dataclasses import replace

from ..core.messages import AssistantMessage, Message
from .base import ModelRequest
from .failures import Cause, UpstreamFailure
from .retries import RetryPolicy

_OF_THE_MODEL = {Cause.AMBIGUOUS, Cause.BUSY, Cause.BROKEN, Cause.GARBLED}


class Course:
    """The attempts of one call. `request` is what the next one asks.

    `fallbacks` are asked in order when the model before has failed for good, and when it is not to be asked now. A
    server that knows `models` falls back by itself; `server_falls_back` then leaves failures to it.
    """

    def __init__(
        self, request: ModelRequest, *, retries: RetryPolicy, fallbacks: tuple[str, ...], server_falls_back: bool
    ) -> None:
        self.request = request
        self.attempts = 0
        self._retries = retries
        self._fallbacks = [model for model in fallbacks if model != request.model]
        self._server_falls_back = server_falls_back
        self._failures = 0

    @property
    def server_fallbacks(self) -> tuple[str, ...]:
        """Models that the server may take in place of the one that is asked."""
        return tuple(self._fallbacks) if self._server_falls_back else ()

    def after(self, failure: UpstreamFailure, left_s: float) -> float | None:
        """Seconds to wait before the next attempt; None is to give up."""
        self._failures += 1
        wait_s = self._retries.wait_s(failure, self._failures, left_s)
        if wait_s is None:
            return 0.0 if self._may_fall_back(failure) and left_s > 0 and self.fall_back() else None
        if failure.affordable_tokens:
            self.request = replace(self.request, max_completion_tokens=failure.affordable_tokens)
        return wait_s

    def fall_back(self) -> bool:
        """Ask the next model from now on; false when there is none."""
        if not self._fallbacks:
            return False
        # Reasoning is signed by the model that it came from, and no other takes it.
        messages = tuple(map(_without_reasoning, self.request.messages))
        self.request = replace(self.request, model=self._fallbacks.pop(0), messages=messages)
        self._failures = 0
        return True

    def _may_fall_back(self, failure: UpstreamFailure) -> bool:
        if self._server_falls_back:
            return False
        return failure.cause in _OF_THE_MODEL or (failure.cause is Cause.REFUSED and failure.status == 404)


def _without_reasoning(message: Message) -> Message:
    if isinstance(message, AssistantMessage) and message.reasoning_details:
        return replace(message, reasoning_details=())
    return message
