"""What a step writes is what is new in it: the hundredth costs no more than the first."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.tables import EVENTS, SESSIONS, TURNS
from actors.core.events import (
    MessageCompleted,
    Spent,
    ToolCompleted,
    ToolRequested,
    ToolStarted,
    TurnCompleted,
    TurnStarted,
    UsageUpdated,
)
from actors.core.messages import ToolCall, Usage

STEPS = (1, 10, 100)
TEXT = "x" * 500


async def whole_turn(one: Any, steps: int) -> None:
    """A turn whose every step asks for a tool and gets its answer, as the loop writes it."""
    turn, body = one.accepted()
    await one.append(body, TurnStarted(body.message_id, "m"), turn=turn)
    spent = total = Spent(Usage(10, 5), 7)
    for step in range(steps):
        call = ToolCall(f"id_{step:03}", "run_shell", '{"command": "ls"}')
        await one.append(
            MessageCompleted(f"ans_{step:03}", TEXT, "m", "tool_calls", (call,)),
            UsageUpdated(f"att_{step:03}", "m", spent, total),
            ToolRequested(call),
            ToolStarted(call.id, call.name),
            turn=turn,
        )
        await one.append(ToolCompleted(call.id, call.name, TEXT), turn=turn)
        total += spent
    await one.append(TurnCompleted("end_turn", steps, total), turn=turn)


@pytest.fixture
def size(process: Any) -> Callable[..., Any]:
    """Rows and bytes that a session takes."""

    async def size(session_id: str) -> tuple[int, int]:
        def measure(connection: sa.Connection) -> tuple[int, int]:
            taken = [
                connection.execute(
                    sa.select(sa.func.count(), sa.func.sum(sa.func.length(column))).where(owner == session_id)
                ).one()
                for column, owner in (
                    (EVENTS.c.payload, EVENTS.c.session_id),
                    (SESSIONS.c.profile, SESSIONS.c.id),
                    (TURNS.c.outcome, TURNS.c.session_id),
                )
            ]
            return sum(rows for rows, _ in taken), sum(length or 0 for _, length in taken)

        return await process.database.read(measure)

    return size


async def test_rows_and_bytes_grow_with_the_steps_and_no_faster(
    process: Any, writer: Callable[..., Any], size: Callable[..., Any], record_property: Callable[[str, object], None]
) -> None:
    found: dict[int, tuple[int, int]] = {}
    for steps in STEPS:
        one = await writer(f"sess_{steps}").create()
        await whole_turn(one, steps)
        found[steps] = await size(one.session_id)
    (rows, length), (rows_10, length_10), (rows_100, length_100) = (found[steps] for steps in STEPS)
    first, later = (rows_10 - rows) / 9, (rows_100 - rows_10) / 90
    assert first == later == 5
    first, later = (length_10 - length) / 9, (length_100 - length_10) / 90
    assert later == pytest.approx(first, rel=0.02), "a step writes more the more steps there were before it"
    assert later < 2 * len(TEXT) + 1200, "a step writes what is not new in it"
    record_property("bytes_per_step", round(later))
    print(f"{length:,} bytes for a turn of one step, {later:,.0f} for each further one")


async def test_what_is_written_is_written_once(
    process: Any, writer: Callable[..., Any], size: Callable[..., Any]
) -> None:
    """Rows that say how things stand are brought up to date, not added to."""
    one = await writer().create()
    sizes = []
    for _ in range(4):
        await whole_turn(one, 3)
        sizes.append(await size("sess_1"))
    growth = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(sizes)]
    assert {rows for rows, _ in growth} == {growth[0][0]}
    assert max(length for _, length in growth) - min(length for _, length in growth) <= 8
