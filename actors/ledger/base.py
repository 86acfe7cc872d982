"""Budgets that hold: what the ledger promises, and its values.

An attempt (one request to a model, or anything else that is paid) owns one *hold* over several *buckets*:

    RESERVED ──dispatch──▶ DISPATCHED ──settle──▶ SETTLED
        │                      └──expire──▶ EXPIRED ──settle──▶ SETTLED
        └──release──▶ RELEASED ──settle──▶ SETTLED

The contract of `Ledger`:

* `reserve` takes every bucket in one atomic step, or none. After it, `spent + reserved <= limit` in each bucket
  that has a limit. It is the only place where something paid is refused, so a flag in a bucket is a switch:
  `suspended` refuses everything, `paused` what is dear.
* Money can only be gone after `dispatch` has returned. From then on a hold is never simply released: it is settled
  with what the attempt cost, or expires and is charged whole, or what was estimated, until the truth comes, however
  late.
* A cost above the hold is charged in full, and may pass the limit by the difference: the money is gone.
* Every operation may be repeated, and come late or in another order: that changes nothing, or is a `HoldConflict`.
* A hold of 0 leaves no trace, only flags refuse it.
* What was dispatched, charged or flagged is in SQL when the call returns, whatever admits. When the backend that
  admits does not answer, `reserve` and `dispatch` raise `LedgerUnavailable`, and nothing may be sent.

All sums are whole micro-dollars. Windows are UTC and part of a bucket's name, so nothing is ever reset.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, Protocol, TypeAlias

Flag: TypeAlias = Literal["paused", "suspended"]
Window: TypeAlias = Literal["hour", "day", "month", "total"]

BUCKETS_MAX = 16
"""Buckets that one hold may touch."""


class State(StrEnum):
    RESERVED = "reserved"
    DISPATCHED = "dispatched"
    RELEASED = "released"
    EXPIRED = "expired"
    SETTLED = "settled"

    @property
    def is_open(self) -> bool:
        """It counts as reserved; else what was charged counts as spent."""
        return self in (State.RESERVED, State.DISPATCHED)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose money in which window, and how much of it; None counts without a limit.

    `kind` is `user`, `session`, `key` or `org`, `id` that one's own.
    """

    kind: Literal["user", "session", "key", "org"]
    id: str
    window: Window = "total"
    limit_micros: int | None = None

    def bucket(self, now: datetime) -> "Bucket":
        """The bucket of this moment."""
        return Bucket(f"{self.kind}:{self.id}:{_WINDOWS[self.window](now)}", self.limit_micros)


_WINDOWS: dict[Window, Callable[[datetime], str]] = {
    "hour": lambda now: f"h:{now:%Y-%m-%dT%H}",
    "day": lambda now: f"d:{now:%Y-%m-%d}",
    "month": lambda now: f"m:{now:%Y-%m}",
    "total": lambda _: "t",
}


def window_of(bucket: str) -> tuple[str, Window]:
    """The scope and the window that a bucket's name tells: `user:u1:d:2026-11-30` → `user`, `day`."""
    letter = "t" if bucket.endswith(":t") else bucket.rsplit(":", 2)[-2]
    return bucket.split(":", 1)[0], _LETTERS[letter]


def owner_of(bucket: str) -> str:
    """Whose bucket it is: `user:u1:d:2026-11-30` → `u1`."""
    rest = bucket.split(":", 1)[1]
    return rest.removesuffix(":t") if rest.endswith(":t") else rest.rsplit(":", 2)[0]


_LETTERS: dict[str, Window] = {"h": "hour", "d": "day", "m": "month", "t": "total"}


def window_end(bucket: str) -> datetime | None:
    """When a bucket's window is over, None for one without end."""
    _, window = window_of(bucket)
    if window == "total":
        return None
    begun = datetime.fromisoformat(f"{_begin(bucket.rsplit(':', 1)[-1], window)}+00:00")
    match window:
        case "hour":
            return begun + timedelta(hours=1)
        case "day":
            return begun + timedelta(days=1)
        case _:
            return (begun + timedelta(days=32)).replace(day=1)


def _begin(text: str, window: Window) -> str:
    return {"hour": f"{text}:00:00", "day": f"{text}T00:00:00"}.get(window) or f"{text}-01T00:00:00"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A counter by name, and how far it may go now."""

    name: str
    limit_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `reserve` is asked for: `amount` if there is room for it, else as much as there is, but not below `least`.

    `until` is when an attempt of which nothing was heard is given up. `buckets` are named once each. What is `dear` is
    refused by a paused bucket too, see `expensive.py`.
    """

    attempt_id: str
    amount: int
    least: int
    buckets: tuple[Bucket, ...]
    until: datetime
    dear: bool = True

    def __post_init__(self) -> None:
        names = {bucket.name for bucket in self.buckets}
        if (
            not min(self.amount, 1) <= self.least <= self.amount
            or not 0 < len(names) == len(self.buckets) <= BUCKETS_MAX
        ):
            raise ValueError(f"not a reservation: {self}")


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation that passed. Its buckets are those of its birth, whenever it is settled.

    Read back from the store, its buckets tell no limits. `crossed` are the thresholds that the operation which returned
    it reached.
    """

    attempt_id: str
    asked: int
    amount: int
    buckets: tuple[Bucket, ...]
    until: datetime
    state: State = State.RESERVED
    charged: int = 0
    crossed: tuple[Any, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a reservation did not pass: the first bucket that refused. `may_pass` once open holds are settled."""

    bucket: str
    spent: int
    reserved: int
    limit: int
    flag: Flag | None = None
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Balance:
    """What a bucket holds."""

    spent: int = 0
    reserved: int = 0
    flag: Flag | None = None


class Admission(Protocol):
    """A backend: one try, no waiting. `budget.py` waits and words the refusals. Holds come back as they are then."""

    async def reserve(self, wanted: Wanted) -> Hold | Denied:
        """Raises `HoldConflict` when the attempt has a hold that asked for another amount; `LedgerUnavailable`."""
        ...

    async def dispatch(self, hold: Hold) -> Denied | None:
        """The attempt is about to be sent. Raises `HoldConflict` when its hold has ended; `LedgerUnavailable`.

        A backend that has forgotten the hold admits it again; then it may be `Denied`, and nothing may be sent.
        """
        ...

    async def release(self, hold: Hold) -> Hold:
        """The attempt will not be sent. Raises `HoldConflict` when it was dispatched; `LedgerUnavailable`."""
        ...

    async def settle(self, hold: Hold, cost: int) -> Hold:
        """What the attempt cost. Raises `HoldConflict` when it was settled with another sum; `StoreUnavailable`."""
        ...

    async def expire(self, hold: Hold, *, estimate: int | None = None) -> Hold:
        """Nobody knows what it cost: charge the whole hold for now, or the estimate where there is one.

        One that was not dispatched is released.

        Raises `StoreUnavailable`.
        """
        ...


class Accounts(Protocol):
    """The other side of a backend: what one reads, switches and clears up."""

    async def balances(self, buckets: Iterable[str]) -> Mapping[str, Balance]:
        """Of each bucket. Raises `LedgerUnavailable`."""
        ...

    async def flag(self, bucket: str, flag: Flag | None) -> None:
        """Refuse everything in a bucket, what is dear, or nothing; durable when this returns.

        Raises `LedgerUnavailable`.
        """
        ...

    async def overdue(self, now: datetime, *, limit: int) -> tuple[Hold, ...]:
        """Open holds whose time has passed, the oldest first. Raises `LedgerUnavailable`."""
        ...

    async def find(self, attempt_id: str) -> Hold | None:
        """The hold of an attempt that was dispatched, from SQL. Raises `StoreUnavailable`."""
        ...


class Ledger(Admission, Accounts, Protocol):
    """What every backend is."""
