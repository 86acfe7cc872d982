"""What the checker finds: which promise was broken, where, and by which numbers."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Promise: TypeAlias = Literal["P1", "P2", "P3", "P4", "P5", "P6", "P8", "P9", "ledger"]

PROMISES: dict[Promise, str] = {
    "P1": "an accepted message is in the journal, once",
    "P2": "a session has one writer",
    "P3": "one turn at a time, one end to each turn",
    "P4": "events are numbered without gaps, and readers get each once",
    "P5": "an idempotency key runs once and bills once",
    "P6": "a tool runs at most once",
    "P8": "a cancel ends the turn within its bound",
    "P9": "a stored transcript is one that providers accept",
    "ledger": "attempts, events and the session's total agree",
}
"""The promises that a history can be checked for."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise. `rule` is a short stable name of what was checked; `says` is one sentence with the figures."""

    promise: Promise
    rule: str
    session_id: str
    says: str
    turn_id: str | None = None
