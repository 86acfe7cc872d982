"""What every backend decides alike: whether a reservation passes, and what an operation makes of a hold.

Pure functions. `scripts.py` says the same in Lua, and the conformance suite holds the two together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core.errors import HoldConflict
from .base import Balance, Bucket, Denied, Flag, Hold, State, Wanted


def judge(wanted: Wanted, balances: Mapping[str, Balance]) -> int | Denied:
    """How much of the amount there is room for, or which bucket refuses.

    Of several buckets without room the first is named that open holds alone do not explain.
    """
    refusing = ("suspended", "paused") if wanted.dear else ("suspended",)
    flagged = (b for flag in refusing for b in wanted.buckets if balances[b.name].flag == flag)
    if (first := next(flagged, None)) is not None:
        return _denied(first, balances[first.name], flag=balances[first.name].flag)
    if wanted.amount == 0:
        return 0
    limited = [bucket for bucket in wanted.buckets if bucket.limit_micros is not None]
    rooms = [_room(bucket, balances[bucket.name]) for bucket in limited]
    granted = min([wanted.amount, *rooms])
    if granted >= wanted.least:
        return granted
    full = [bucket for bucket, room in zip(limited, rooms, strict=True) if room < wanted.least]
    for_good = [b for b in full if _room(b, balances[b.name]) + balances[b.name].reserved < wanted.least]
    return _denied((for_good or full)[0], balances[(for_good or full)[0].name], may_pass=not for_good)


def _room(bucket: Bucket, balance: Balance) -> int:
    assert bucket.limit_micros is not None
    return bucket.limit_micros - balance.spent - balance.reserved


def _denied(bucket: Bucket, balance: Balance, *, flag: Flag | None = None, may_pass: bool = False) -> Denied:
    """A flag is named where it is the reason, and not where there is no room."""
    limit = -1 if bucket.limit_micros is None else bucket.limit_micros
    return Denied(bucket.name, balance.spent, balance.reserved, limit, flag, may_pass)


def repeated(known: Hold, wanted: Wanted) -> Hold:
    """The hold of an attempt that reserves again. Raises `HoldConflict` when it asks for something else."""
    if known.asked != wanted.amount:
        raise HoldConflict(f"the attempt has a hold for {known.asked}, not {wanted.amount}")
    return replace(known, buckets=wanted.buckets)


def dispatched(hold: Hold) -> Hold:
    if not hold.state.is_open:
        raise HoldConflict(f"a hold that is {hold.state} cannot be dispatched")
    return replace(hold, state=State.DISPATCHED)


def released(hold: Hold) -> Hold:
    if hold.state not in (State.RESERVED, State.RELEASED):
        raise HoldConflict(f"a hold that is {hold.state} cannot be released: money may be gone")
    return replace(hold, state=State.RELEASED)


def settled(hold: Hold, cost: int) -> Hold:
    if cost < 0:
        raise ValueError("a cost is not negative")
    if hold.state is State.SETTLED and hold.charged != cost:
        raise HoldConflict(f"the attempt was settled with {hold.charged}, not {cost}")
    return replace(hold, state=State.SETTLED, charged=cost)


def expired(hold: Hold, estimate: int | None) -> Hold:
    match hold.state:
        case State.RESERVED:
            return replace(hold, state=State.RELEASED)
        case State.DISPATCHED:
            return replace(hold, state=State.EXPIRED, charged=hold.amount if estimate is None else estimate)
        case _:
            return hold


def moves(before: Hold | None, after: Hold) -> tuple[int, int]:
    """What a change of a hold adds to spent and to reserved, in each of its buckets."""
    spent = after.charged - (before.charged if before else 0)
    reserved = _reserved(after) - (_reserved(before) if before else 0)
    return spent, reserved


def _reserved(hold: Hold) -> int:
    return hold.amount if hold.state.is_open else 0


def named(names: str) -> tuple[Bucket, ...]:
    """Buckets as a row keeps them: a line each."""
    return tuple(map(Bucket, names.split("\n")))


def lines(buckets: Sequence[Bucket]) -> str:
    return "\n".join(bucket.name for bucket in buckets)
