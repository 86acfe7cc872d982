"""What became known of an attempt after its session's events had told of it.

The book of attempts holds the truth; a session's events say what was known when they were written, and are not
changed. A correction is the difference between the two, so that totals can follow without waking the session.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.events import Spent
from ..core.messages import TOKENS, Usage
from ..store.database import METADATA, Instant

CORRECTIONS = sa.Table(
    "attempt_corrections",
    METADATA,
    sa.Column("attempt_id", sa.String(64), primary_key=True),
    sa.Column("session_id", sa.String(64), nullable=False),
    sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
    sa.Column("completion_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("cost_micros", sa.BigInteger, nullable=False),
    sa.Column("cost_was_known", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("attempt_corrections_by_session", "session_id"),
)

_COUNTED = (*TOKENS, "cost_micros")


@dataclass(frozen=True, slots=True)
class Correction:
    """What is to be added to what was told; a cost by list price may have been too high."""

    usage: Usage
    cost_micros: int
    cost_was_known: bool

    def undone(self, spent: Spent) -> Spent:
        """What was told of that which is now `spent`."""
        return Spent(spent.usage - self.usage, spent.cost_micros - self.cost_micros, self.cost_was_known)


def corrections_of(connection: Connection, session_id: str) -> dict[str, Correction]:
    """Those of a session, by attempt."""
    rows = connection.execute(sa.select(CORRECTIONS).where(CORRECTIONS.c.session_id == session_id))
    return {row.attempt_id: Correction(Usage.of(row), row.cost_micros, row.cost_was_known) for row in rows}


def late_totals(connection: Connection, session_ids: Sequence[str]) -> dict[str, Spent]:
    """What the corrections of each of these sessions sum up to, where there are any."""
    sums = [sa.func.sum(CORRECTIONS.c[name]).label(name) for name in _COUNTED]
    query = sa.select(CORRECTIONS.c.session_id, *sums).group_by(CORRECTIONS.c.session_id)
    rows = connection.execute(query.where(CORRECTIONS.c.session_id.in_(session_ids)))
    return {row.session_id: Spent(Usage.of(row), int(row.cost_micros)) for row in rows}
