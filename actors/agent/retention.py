"""Trimming: events that are too old make room for one that holds what the session needs to go on.

Only whole turns are trimmed, and only while nothing runs or waits in the session. The epoch rises, as when
another process takes the session over: a host that has it in memory drops it and reads what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.events import TERMINAL, Event, HistoryTrimmed, MessageAccepted, MessageCompleted
from .payloads import Payloads
from .state import SessionState
from .tables import APPROVALS, EVENTS, SESSIONS, TURNS

_SECOND = EVENTS.alias("second")
_CANDIDATES = (
    sa.select(SESSIONS.c.id, SESSIONS.c.user_id, SESSIONS.c.epoch, SESSIONS.c.last_seq)
    # The first event that is left may be the summary of an earlier trim, which says nothing of age.
    .join(_SECOND, sa.and_(_SECOND.c.session_id == SESSIONS.c.id, _SECOND.c.seq == SESSIONS.c.oldest_seq + 1))
    .where(SESSIONS.c.status == "idle", SESSIONS.c.deleted_at.is_(None), _SECOND.c.created_at < sa.bindparam("before"))
    .order_by(_SECOND.c.created_at)
    .limit(sa.bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Cut:
    """Events up to number `seq` go, and this takes their place."""

    seq: int
    summary: HistoryTrimmed


def candidates(connection: Connection, before: datetime, limit: int) -> Sequence[Any]:
    """Sessions that may have something to trim: id, user_id, epoch, last_seq."""
    return connection.execute(_CANDIDATES, {"before": before, "most": limit}).all()


def cut_of(events: Sequence[Event], before: datetime) -> Cut | None:
    """Where to cut a session's events, which begin at its first; None when no whole turn is old enough."""
    state = SessionState(events[0].session_id)
    messages = turns = 0
    first_at = events[0].created_at
    cut: Cut | None = None
    for event in events:
        if event.created_at >= before:
            break
        state.apply(event)
        match event.body:
            case HistoryTrimmed() as body:
                messages, turns, first_at = body.messages, body.turns, body.first_at
                continue
            case MessageAccepted() | MessageCompleted():
                messages += 1
            case _:
                turns += isinstance(event.body, TERMINAL)
        if not state.turns and event.seq > 1:
            assert state.created is not None
            summary = HistoryTrimmed(
                state.created, state.title, messages, turns, first_at, event.created_at, state.spent, state.paused
            )
            cut = Cut(event.seq, summary)
    return cut


def apply_cut(connection: Connection, session: Any, cut: Cut, payloads: Payloads) -> bool:
    """False when the session went on meanwhile: then nothing was changed."""
    fenced = connection.execute(
        sa.update(SESSIONS)
        .where(
            SESSIONS.c.id == session.id,
            SESSIONS.c.epoch == session.epoch,
            SESSIONS.c.last_seq == session.last_seq,
            SESSIONS.c.status == "idle",
            SESSIONS.c.deleted_at.is_(None),
        )
        .values(epoch=SESSIONS.c.epoch + 1, oldest_seq=cut.seq)
    )
    if fenced.rowcount == 0:
        return False
    gone = sa.select(TURNS.c.id).where(TURNS.c.session_id == session.id, TURNS.c.accepted_seq <= cut.seq)
    connection.execute(sa.delete(APPROVALS).where(APPROVALS.c.turn_id.in_(gone)))
    connection.execute(sa.delete(TURNS).where(TURNS.c.session_id == session.id, TURNS.c.accepted_seq <= cut.seq))
    connection.execute(sa.delete(EVENTS).where(EVENTS.c.session_id == session.id, EVENTS.c.seq <= cut.seq))
    event = Event(cut.seq, session.id, None, cut.summary.last_at, cut.summary)
    connection.execute(sa.insert(EVENTS), [payloads.event_row(event, session.user_id)])
    return True
