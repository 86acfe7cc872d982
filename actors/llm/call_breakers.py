"""Which breakers a model call passes, and what its end says of each of them."""

from types import TracebackType

from .base import Answer
from .breakers import Breakers, Key, Pass
from .failures import Cause, UpstreamFailure

_SICK = {Cause.AMBIGUOUS, Cause.BUSY, Cause.BROKEN, Cause.GARBLED}


class CallBreakers:
    """The breakers of one client: its credential, its account, its server, each model, and each provider behind it.

    `providers`: the server chooses among providers, and leaves out those that it is told to.
    """

    def __init__(self, breakers: Breakers, *, server: str, providers: bool) -> None:
        self._breakers = breakers
        self._server = server
        self._providers = providers

    def enter(self, model: str) -> "Entered":
        """Begin an attempt. Raises `BreakerOpen`. Use what it returns as a context manager."""
        own: tuple[Key, ...] = (
            ("credential", self._server),
            ("account", self._server),
            ("server", self._server),
            ("model", model),
        )
        passes = self._breakers.enter(*own)
        ignored: list[str] = []
        for key in self._breakers.not_closed("provider") if self._providers else ():
            if self._breakers.may_enter(key):
                passes |= self._breakers.enter(key)  # the server may try it with this call
            else:
                ignored.append(key[1])
        return Entered(self._breakers, self._server, model, passes, tuple(ignored))


class Entered:
    """An attempt that was let through. One that ends in neither way, because it was cancelled, says nothing."""

    def __init__(
        self, breakers: Breakers, server: str, model: str, passes: dict[Key, Pass], ignored: tuple[str, ...]
    ) -> None:
        self.ignored_providers = ignored
        self._breakers = breakers
        self._server = server
        self._model = model
        self._passes = passes
        self._said: dict[Key, bool] = {}

    def __enter__(self) -> "Entered":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._breakers.leave(self._passes, failed=self._said)

    def answered(self, answer: Answer, fallbacks: tuple[str, ...]) -> None:
        """An answer came, perhaps from a model that the server fell back to: then nothing is known of the first."""
        self._said = {**self._reached(), ("credential", self._server): False, ("account", self._server): False}
        self._said["model", answer.model if answer.model in fallbacks else self._model] = False
        if answer.provider and ("provider", answer.provider) in self._passes:
            self._said["provider", answer.provider] = False

    def failed(self, failure: UpstreamFailure) -> None:
        """A failure counts against what it is the fault of; a request that was wrong is nobody's but ours."""
        self._said = self._reached()
        match failure.cause:
            case Cause.UNREACHED:
                self._said["server", self._server] = True
            case cause if cause in _SICK:
                self._said["model", self._model] = True
                self._said |= {("provider", provider): True for provider in failure.providers}
            case Cause.CREDENTIAL:
                self._breakers.trip(("credential", self._server))
            case Cause.CREDIT if failure.affordable_tokens is None:
                self._breakers.trip(("account", self._server))
            case Cause.CREDIT:
                self._said["account", self._server] = True
            case _:
                pass

    def _reached(self) -> dict[Key, bool]:
        return {("server", self._server): False}
