"""How tools were used, by the journal: calls, seconds, and what their output costs later as part of prompts.

A tool has no price of its own. What it printed is in the prompt of every later call of its session, and how much
of these prompts it was is an estimate. Sessions that were deleted or trimmed since are not in it.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..core.events import Event, ToolCompleted, ToolOutcomeUnknown
from ..ledger.book import ATTEMPTS
from ..ledger.costs import as_of_one_moment, attempts_in
from ..ledger.periods import Span
from ..store.database import Database
from .payloads import Payloads
from .tables import EVENTS, SESSIONS

USES_MOST = 10_000
"""Tool calls that a report looks at, of the sessions that were written to last."""

SESSIONS_MOST = 1_000

CHARS_PER_TOKEN = 4
"""As an estimate: a tokenizer makes about one token of four characters of English or code."""

_ENDED = ("tool.completed", "tool.outcome_unknown")


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Calls of one tool. `prompt_tokens` estimates what its output took of later prompts in this time."""

    name: str
    calls: int = 0
    failed: int = 0
    lost: int = 0
    """Calls whose outcome nobody knows."""
    wall_ms: int = 0
    output_chars: int = 0
    prompt_tokens: int = 0

    def __add__(self, other: "ToolUse") -> "ToolUse":
        return ToolUse(
            self.name,
            self.calls + other.calls,
            self.failed + other.failed,
            self.lost + other.lost,
            self.wall_ms + other.wall_ms,
            self.output_chars + other.output_chars,
            self.prompt_tokens + other.prompt_tokens,
        )


@dataclass(frozen=True, slots=True)
class ToolUses:
    """A report: tools by name, the one that took longest first, in all and in each period of the span.

    `cut` says that there was more than it looks at, so that all its figures are lower bounds.
    """

    tools: tuple[ToolUse, ...] = ()
    slices: tuple[tuple[ToolUse, ...], ...] = ()
    cut: bool = False

    @property
    def total(self) -> ToolUse:
        return sum(self.tools, ToolUse(""))


class ToolBook:
    """Reads tools' ends out of the journal, through the cipher."""

    def __init__(self, database: Database, payloads: Payloads, *, most: int = USES_MOST) -> None:
        self._database = database
        self._payloads = payloads
        self._most = most

    async def report(self, span: Span, *, user_id: str | None) -> ToolUses:
        """Of a user's sessions, or of all. Raises `StoreUnavailable`."""
        events, calls, cut = await self._database.read(lambda c: self._read(c, span, user_id))
        return counted(span, events, calls, cut=cut)

    def _read(self, connection: Connection, span: Span, user_id: str | None) -> tuple[list[Event], "Calls", bool]:
        as_of_one_moment(connection)
        mine = sa.and_(SESSIONS.c.updated_at >= span.begin, SESSIONS.c.deleted_at.is_(None))
        if user_id is not None:
            mine = sa.and_(SESSIONS.c.user_id == user_id, mine)
        newest = (
            sa.select(SESSIONS.c.id, SESSIONS.c.user_id)
            .where(mine)
            .order_by(SESSIONS.c.updated_at.desc(), SESSIONS.c.id)
            .limit(SESSIONS_MOST + 1)
        )
        owners = {row.id: row.user_id for row in connection.execute(newest)}
        chosen = dict(list(owners.items())[:SESSIONS_MOST])
        events: list[Event] = []
        for session_id, owner in chosen.items():
            if len(events) > self._most:
                break
            events += self._ends(connection, span, session_id, owner, self._most + 1 - len(events))
        cut = len(owners) > SESSIONS_MOST or len(events) > self._most
        return events[: self._most], _calls(connection, span, user_id, {event.session_id for event in events}), cut

    def _ends(self, connection: Connection, span: Span, session_id: str, owner: str, limit: int) -> list[Event]:
        rows = connection.execute(_ENDS, {"session": session_id, "since": span.begin, "until": span.end, "most": limit})
        return [self._event(row, owner) for row in rows]

    def _event(self, row: Any, owner: str) -> Event:
        return self._payloads.event(
            session_id=row.session_id,
            seq=row.seq,
            turn_id=row.turn_id,
            created_at=row.created_at,
            payload=row.payload,
            user_id=owner,
        )


# The primary key finds a session's events; built once, as it is run for each session.
_ENDS = (
    sa.select(EVENTS)
    .where(
        EVENTS.c.session_id == sa.bindparam("session"),
        EVENTS.c.type.in_(_ENDED),
        EVENTS.c.created_at >= sa.bindparam("since"),
        EVENTS.c.created_at < sa.bindparam("until"),
    )
    .order_by(EVENTS.c.seq.desc())
    .limit(sa.bindparam("most"))
)


@dataclass(slots=True)
class Calls:
    """When the model was called in each session, in order, by calls that told their tokens."""

    by_session: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict[str, list[datetime]](list))

    def after(self, session_id: str, moment: datetime) -> int:
        began = self.by_session.get(session_id, [])
        return len(began) - bisect.bisect_left(began, moment)


def _calls(connection: Connection, span: Span, user_id: str | None, sessions: set[str]) -> Calls:
    found = Calls()
    query = (
        sa.select(ATTEMPTS.c.session_id, ATTEMPTS.c.started_at)
        .where(attempts_in(span, user_id), ATTEMPTS.c.kind == "model", ATTEMPTS.c.prompt_tokens.is_not(None))
        .order_by(ATTEMPTS.c.started_at.desc())
        .limit(USES_MOST * 10)
    )
    for row in connection.execute(query):
        if row.session_id in sessions:
            found.by_session[row.session_id].append(row.started_at)
    for began in found.by_session.values():
        began.reverse()
    return found


def counted(span: Span, events: Iterable[Event], calls: Calls, *, cut: bool = False) -> ToolUses:
    """Add up. A call that a fork copied is one call; its output is in the prompts of both sessions."""
    slices: list[dict[str, ToolUse]] = [{} for _ in span.begins]
    seen: set[tuple[str, datetime]] = set()
    for event in events:
        body = event.body
        if not isinstance(body, ToolCompleted | ToolOutcomeUnknown):
            continue
        use = _use(body)
        tokens = -(-use.output_chars // CHARS_PER_TOKEN) * calls.after(event.session_id, event.created_at)
        call = (body.tool_call_id, event.created_at)
        use = ToolUse(use.name, prompt_tokens=tokens) if call in seen else replace(use, prompt_tokens=tokens)
        seen.add(call)
        tools = slices[bisect.bisect_right(span.begins, event.created_at) - 1]
        tools[use.name] = tools[use.name] + use if use.name in tools else use
    total: dict[str, ToolUse] = {}
    for tools in slices:
        for name, use in tools.items():
            total[name] = total[name] + use if name in total else use
    return ToolUses(_ordered(total.values()), tuple(_ordered(tools.values()) for tools in slices), cut)


def _use(body: ToolCompleted | ToolOutcomeUnknown) -> ToolUse:
    if isinstance(body, ToolOutcomeUnknown):
        return ToolUse(body.name, calls=1, lost=1)
    failed = int(body.error is not None)
    return ToolUse(body.name, calls=1, failed=failed, wall_ms=body.duration_ms, output_chars=len(body.content))


def _ordered(uses: Iterable[ToolUse]) -> tuple[ToolUse, ...]:
    return tuple(sorted(uses, key=lambda use: (-use.wall_ms, -use.calls, use.name)))
