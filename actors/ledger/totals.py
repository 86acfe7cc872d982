"""Totals of sessions as they are known now: what their events told, and what was learnt since."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.events import Spent
from .book import ATTEMPTS
from .corrections import late_totals


def totals(connection: Connection, told: Mapping[str, Spent]) -> dict[str, Spent]:
    """Of each session, from what its events told."""
    late = late_totals(connection, list(told))
    unknown = _unknown(connection, [session for session, spent in told.items() if not spent.cost_known])
    found: dict[str, Spent] = {}
    for session, spent in told.items():
        total = spent + late.get(session, Spent())
        found[session] = Spent(total.usage, total.cost_micros, session not in unknown)
    return found


def _unknown(connection: Connection, session_ids: Sequence[str]) -> set[str]:
    """Those with an attempt that nobody knows the cost of to this day."""
    if not session_ids:
        return set()
    rows = connection.execute(
        sa.select(ATTEMPTS.c.session_id)
        .where(ATTEMPTS.c.session_id.in_(session_ids), ATTEMPTS.c.state == "ended", ATTEMPTS.c.cost_micros.is_(None))
        .distinct()
    )
    return set(rows.scalars())
