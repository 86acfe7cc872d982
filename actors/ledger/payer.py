"""Who else a call is charged to, beside its user and its session: the API key that it came with, and its organisation.

The edge knows both and puts them into the message, where the journal keeps them for whoever runs the turn. From there
they travel beside the calls, as a context, because nothing on the way has a use for them.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from .base import Scope


@dataclass(frozen=True, slots=True)
class Payer:
    """None is: of no key, as when the session's own process or a notebook asks; of no organisation."""

    key_id: str | None = None
    org_id: str | None = None


NOBODY = Payer()

_payer: ContextVar[Payer] = ContextVar("payer", default=NOBODY)


@contextmanager
def paying(payer: Payer) -> Generator[None]:
    """What is reserved meanwhile is charged to that one too."""
    token = _payer.set(payer)
    try:
        yield
    finally:
        _payer.reset(token)


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """What a key and an organisation may spend, in micro-dollars; None counts without a limit."""

    key_day: int | None = None
    key_month: int | None = None
    org_day: int | None = None
    org_month: int | None = None

    def scopes(self) -> tuple[Scope, ...]:
        """Those of whoever pays now."""
        payer = _payer.get()
        scopes: list[Scope] = []
        if payer.key_id:
            scopes += (
                Scope("key", payer.key_id, "day", self.key_day),
                Scope("key", payer.key_id, "month", self.key_month),
            )
        if payer.org_id:
            scopes += (
                Scope("org", payer.org_id, "day", self.org_day),
                Scope("org", payer.org_id, "month", self.org_month),
            )
        return tuple(scopes)
