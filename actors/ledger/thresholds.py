"""Thresholds of what a user spends in a window: warning, critical, emergency. What follows is in `agent/reactions.py`.

A threshold is written `day:80%:critical` (a share of that window's limit) or `day:40:critical` (US dollars).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Literal, TypeAlias, cast

from ..core.money import to_micros
from .base import Window, window_of

Severity: TypeAlias = Literal["warning", "critical", "emergency"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Reached when `micros` or more are spent. `name` tells it from others of its window, however the limit moves."""

    window: Window
    name: str
    severity: Severity
    micros: int
    limit_micros: int | None = None


class Thresholds:
    """Those of every user."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self.all = tuple(sorted(thresholds, key=lambda one: one.micros))

    @classmethod
    def of(cls, texts: Sequence[str], limits: Mapping[Window, int | None]) -> "Thresholds":
        """As settings write them. A share of a window that has no limit is no threshold."""
        made = (_threshold(text, limits) for text in texts)
        return cls([one for one in made if one is not None])

    def crossed(self, bucket: str, before: int, after: int) -> tuple[Threshold, ...]:
        """What a bucket reached when what was spent in it went from `before` to `after`, the lowest first."""
        scope, window = window_of(bucket)
        if scope != "user" or after <= before:
            return ()
        return tuple(one for one in self.all if one.window == window and before < one.micros <= after)


def _threshold(text: str, limits: Mapping[Window, int | None]) -> Threshold | None:
    word, at, severity = text.split(":")
    window = cast("Window", word)
    limit = limits.get(window)
    if at.endswith("%"):
        if limit is None:
            return None
        micros = int((limit * Decimal(at[:-1]) / 100).to_integral_value(ROUND_CEILING))
    else:
        micros = to_micros(Decimal(at))
    return Threshold(window, f"{at} {severity}", cast("Severity", severity), max(1, micros), limit)


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that was reached in a bucket: there is one of these for the two, ever.

    `id` follows from the two. `state` is what is still to do: `fired` everything, `reacted` to tell the webhook, `done`
    nothing; `failed` says that the webhook was given up. `session_id` is whose cost it was, where that is known.
    """

    id: str
    bucket: str
    name: str
    severity: Severity
    threshold_micros: int
    limit_micros: int | None
    spent_micros: int
    user_id: str
    session_id: str | None
    fired_at: datetime
    state: str = "fired"
    tries: int = 0
