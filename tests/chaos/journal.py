"""What the journal says after a run: how turns ended, how often they were taken over, how soon they went on."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from actors.agent.tables import EVENTS, TURNS
from actors.store.database import Database

_ENDS = ("turn.completed", "turn.failed", "turn.cancelled")
RECOVERING = "turn.recovering"


@dataclass(frozen=True, slots=True)
class TurnEvent:
    turn_id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """How long a turn that ran when a fault struck wrote nothing. `recovered` when a new host took it over."""

    kind: str
    seconds: float
    recovered: bool


async def turn_events(database: Database) -> Sequence[TurnEvent]:
    query = (
        sa.select(EVENTS.c.turn_id, EVENTS.c.type, EVENTS.c.created_at)
        .where(EVENTS.c.turn_id.is_not(None))
        .order_by(EVENTS.c.session_id, EVENTS.c.seq)
    )
    rows = await database.read(lambda connection: connection.execute(query).all())
    return [TurnEvent(row.turn_id, row.type, row.created_at) for row in rows]


async def internal_errors(database: Database) -> Sequence[str]:
    """Turns that failed for a reason that Greenroom does not know: whatever is broken, it should know what it meets."""
    query = sa.select(EVENTS.c.turn_id, EVENTS.c.payload).where(EVENTS.c.type == "turn.failed")
    rows = await database.read(lambda connection: connection.execute(query).all())
    return [row.turn_id for row in rows if b'"code":"internal"' in row.payload]


async def unfinished(database: Database) -> int:
    """Turns without an end."""
    query = sa.select(sa.func.count()).select_from(TURNS).where(TURNS.c.finished_at.is_(None))
    return await database.read(lambda connection: connection.execute(query).scalar_one())


def statuses(events: Sequence[TurnEvent]) -> Counter[str]:
    """Turns by how they ended; `accepted` counts them all."""
    counted = Counter(event.type.removeprefix("turn.") for event in events if event.type in _ENDS)
    counted["accepted"] = sum(event.type == "message.accepted" for event in events)
    return counted


def gaps(events: Sequence[TurnEvent], strikes: Sequence[tuple[str, datetime]]) -> list[Gap]:
    """For each fault and each turn that ran then: from the fault to the turn's next event."""
    turns: defaultdict[str, list[TurnEvent]] = defaultdict(list)
    for event in events:
        turns[event.turn_id].append(event)
    found: list[Gap] = []
    for kind, at in strikes:
        for said in turns.values():
            before = [event for event in said if event.at <= at]
            after = [event for event in said if event.at > at]
            started = any(event.type == "turn.started" for event in before)
            if started and after and before[-1].type not in _ENDS:
                seconds = (after[0].at - at).total_seconds()
                found.append(Gap(kind, seconds, after[0].type == RECOVERING))
    return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that so large a share of them does not exceed, by nearest rank."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
