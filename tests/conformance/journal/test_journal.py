"""What is appended is there, whole, in order, under its numbers; and only once."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from actors.agent.journal import Profile
from actors.agent.tables import SESSIONS, TURNS
from actors.core.errors import Fenced, SessionExists, SessionNotFound
from actors.core.events import (
    Failure,
    MessageAccepted,
    MessageCompleted,
    SessionCreated,
    Spent,
    ToolCompleted,
    TurnFailed,
    TurnQueued,
    TurnStarted,
    UsageUpdated,
)
from actors.core.messages import ToolCall, Usage
from actors.ledger.book import AttemptClosed, AttemptOpened, attempts_of

TEXT = "漢字 🙂 \x00 \n — naïve"
"""Text with what databases trip over: several planes, and a NUL."""


async def test_what_is_appended_is_read_back(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create(metadata={"text": TEXT, "n": 1.5})
    turn, accepted = one.accepted()
    bodies = (
        MessageAccepted(accepted.message_id, TEXT),
        TurnStarted(accepted.message_id, "some-model"),
        MessageCompleted("msg_a", TEXT, "m", "tool_calls", (ToolCall("id_1", "run", '{"a": 1}'),), reasoning=TEXT),
        ToolCompleted("id_1", "run", TEXT, data={"deep": [1, {"er": None}]}),
    )
    await one.append(*bodies, turn=turn)
    events = await process.journal.read("sess_1", after=0, limit=100)
    assert events == (*one_created(one, events), *one_appended(one, bodies, turn))
    activation = await process.journal.activate("sess_1")
    assert (activation.session_id, activation.user_id, activation.events) == ("sess_1", "user_1", events)


def one_created(one: Any, events: Any) -> Any:
    first = events[0]
    assert (first.seq, first.session_id, first.turn_id) == (1, "sess_1", None)
    assert first.body == SessionCreated("user_1", "some-model", metadata={"text": TEXT, "n": 1.5})
    return (first,)


def one_appended(one: Any, bodies: Any, turn: str) -> Any:
    one.seq -= len(bodies)
    return one.make(*bodies, turn=turn).events


async def test_reading_goes_by_number_and_limit(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    for _ in range(5):
        await one.accept()
    numbers = {
        (after, limit): [e.seq for e in await process.journal.read("sess_1", after=after, limit=limit)]
        for after, limit in [(0, 2), (2, 2), (4, 100), (6, 100)]
    }
    assert numbers == {(0, 2): [1, 2], (2, 2): [3, 4], (4, 100): [5, 6], (6, 100): []}


async def test_what_is_not_there(process: Any) -> None:
    with pytest.raises(SessionNotFound):
        await process.journal.read("nobody", after=0, limit=1)
    with pytest.raises(SessionNotFound):
        await process.journal.activate("nobody")


async def test_a_session_is_created_once(
    process: Any, writer: Callable[..., Any], outcomes: Callable[..., Any]
) -> None:
    await writer().create()
    with pytest.raises(SessionExists):
        await writer().create()
    with pytest.raises(SessionExists):
        await writer(user_id="user_2").create()
    assert len(await process.journal.read("sess_1", after=0, limit=10)) == 1


@pytest.mark.parametrize(("times", "beside"), [(5, 1), (1, 0)])
async def test_created_by_many_at_once_it_is_created_once(
    open_process: Callable[..., Any], writer: Callable[..., Any], outcomes: Callable[..., Any], times: int, beside: int
) -> None:
    """From several processes, each of which may also commit for a session that has nothing to do with it."""
    processes = [open_process() for _ in range(4)]
    creations = [writer("sess_1", p.journal).create() for p in processes for _ in range(times)]
    others = [writer(f"other_{at}", p.journal).create() for at, p in enumerate(processes) for _ in range(beside)]
    errors = await outcomes(*creations, *others)
    assert errors[len(creations) :] == [None] * len(others), "a session beside it came to harm"
    assert errors[: len(creations)].count(None) == 1
    assert {type(e) for e in errors[: len(creations)] if e is not None} == {SessionExists}


@pytest.mark.parametrize("offset", [-2, -1, 1, 5])
async def test_only_the_next_number_can_be_written(process: Any, writer: Callable[..., Any], offset: int) -> None:
    one = await writer().create()
    for _ in range(3):
        await one.accept()
    one.seq += offset
    turn, body = one.accepted()
    with pytest.raises(Fenced):
        await one.append(body, turn=turn)
    assert [e.seq for e in await process.journal.read("sess_1", after=0, limit=100)] == [1, 2, 3, 4]


async def test_events_and_ledger_are_written_together_or_not_at_all(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    zombie = writer()
    zombie.seq = 1
    turn, body = one.accepted()
    opened = AttemptOpened("att_1", turn, "sess_1", "user_1", "some-model", process.clock.now())
    await process.journal.activate("sess_1")
    with pytest.raises(Fenced):
        await zombie.append(body, TurnStarted("msg_1", "m"), turn=turn, attempts=(opened,))
    assert await process.database.read(lambda c: attempts_of(c, "sess_1")) == ()
    assert await process.database.read(lambda c: c.execute(sa.select(TURNS)).all()) == []
    assert len(await process.journal.read("sess_1", after=0, limit=10)) == 1


async def test_the_ledger_row_of_an_attempt(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    turn, body = one.accepted()
    exact = Decimal("0.00012345678901234567")
    now = process.clock.now()
    opened = [AttemptOpened(f"att_{n}", turn, "sess_1", "user_1", "some-model", now) for n in (1, 2, 3)]
    await one.append(body, turn=turn, attempts=tuple(opened))
    closed = AttemptClosed(
        "att_1", "stop", now, model="real-model", provider="P", generation_id="gen", usage=Usage(10, 5, 3, 1),
        cost_usd=exact, cost_source="upstream",
    )  # fmt: skip
    spent = Spent(Usage(10, 5, 3, 1), 124)
    await one.append(
        UsageUpdated("att_1", "real-model", spent, spent),
        turn=turn,
        attempts=(closed, AttemptClosed("att_2", "e", now)),
    )
    first, second, third = await process.database.read(lambda c: attempts_of(c, "sess_1"))
    assert (first.state, first.model, first.outcome, first.usage) == (
        "settled",
        "real-model",
        "stop",
        Usage(10, 5, 3, 1),
    )
    assert (first.cost_micros, first.cost_exact, first.cost_source) == (124, exact, "upstream")
    assert first.details == {"provider": "P", "generation_id": "gen"}
    # What nobody knows is null, and the model that was asked stays.
    assert (second.state, second.model, second.cost_micros, second.cost_exact) == ("ended", "some-model", None, None)
    assert (third.state, third.outcome) == ("dispatched", None)


async def test_the_ledger_row_of_a_tool(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    turn, body = one.accepted()
    now = process.clock.now()
    model = AttemptOpened("att_1", turn, "sess_1", "user_1", "m", now)
    opened = [
        AttemptOpened(f"use_{kind}", turn, "sess_1", "user_1", "", now, kind, "run_python")
        for kind in ("sandbox", "tool")
    ]
    await one.append(body, turn=turn, attempts=(model, *opened))
    closed = AttemptClosed("use_sandbox", "ok", now, cost_usd=Decimal("0.0000005"), seconds=0.25)
    await one.append(TurnStarted("msg_1", "m"), turn=turn, attempts=(closed,))
    _, sandbox, tool = await process.database.read(lambda c: attempts_of(c, "sess_1"))
    assert (sandbox.kind, sandbox.name, sandbox.seconds, sandbox.cost_micros) == ("sandbox", "run_python", 0.25, 1)
    assert (sandbox.state, sandbox.outcome, tool.state, tool.seconds) == ("settled", "ok", "dispatched", None)
    # Whoever takes the session over knows by its events which tools ran.
    assert (await process.journal.activate("sess_1")).open_attempts == {turn: ("att_1",)}


async def test_attempts_are_listed_in_the_order_in_which_they_were_made(
    process: Any, writer: Callable[..., Any]
) -> None:
    one = await writer().create()
    turn, body = one.accepted()
    made = [f"att_{n}" for n in (3, 1, 12, 2)]
    await one.append(body, turn=turn)
    for name in made:
        process.clock.advance(1)
        entry = AttemptOpened(name, turn, "sess_1", "user_1", "m", process.clock.now())
        await one.append(TurnQueued("msg_1", 1), turn=turn, attempts=(entry,))
    assert [a.id for a in await process.database.read(lambda c: attempts_of(c, "sess_1"))] == made


async def test_the_rows_follow_the_events(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()

    async def row() -> Any:
        return await process.database.read(lambda c: c.execute(sa.select(SESSIONS)).one())

    async def turn_row(turn: str) -> Any:
        return await process.database.read(lambda c: c.execute(sa.select(TURNS).where(TURNS.c.id == turn)).one())

    turn, body = one.accepted()
    await one.append(body, turn=turn)
    assert ((await row()).status, (await turn_row(turn)).status) == ("idle", "queued")
    await one.append(TurnStarted(body.message_id, "m"), turn=turn, status="running")
    assert ((await row()).status, (await turn_row(turn)).status) == ("running", "running")
    spent = Spent(Usage(10, 5, 3, 1), 124, cost_known=False)
    await one.append(UsageUpdated("att_1", "m", spent, spent), turn=turn, status="running")
    after = await row()
    assert (after.prompt_tokens, after.completion_tokens, after.cached_tokens, after.reasoning_tokens) == (10, 5, 3, 1)
    assert (after.cost_micros, after.cost_known, after.status, after.last_seq) == (124, False, "running", 4)
    failed = TurnFailed(Failure("internal", TEXT), 1, spent)
    await one.append(failed, turn=turn)
    ended = await turn_row(turn)
    assert ((await row()).status, ended.status) == ("idle", "failed")
    assert ended.finished_at == one.make(body).events[0].created_at.replace(microsecond=one.seq - 1)
    assert process.payloads.outcome(ended.outcome, turn_id=turn, user_id="user_1") == failed


async def test_the_profile_stays_until_it_is_written_again(process: Any, writer: Callable[..., Any]) -> None:
    one = await writer().create()
    await one.accept()
    assert (await process.book.get("sess_1", "user_1")).title == "A title"
    turn, body = one.accepted()
    await one.append(body, turn=turn, profile=Profile(TEXT, "Be brief.", {"a": 1}))
    row = await process.book.get("sess_1", "user_1")
    assert (row.title, row.system, row.metadata) == (TEXT, "Be brief.", {"a": 1})


async def test_unfinished_lists_sessions_with_open_turns_the_oldest_first(
    process: Any, writer: Callable[..., Any]
) -> None:
    for name in ("young", "old", "done"):
        one = await writer(name).create()
        if name == "old":
            turn, body = one.accepted()
            await one.append(body, turn=turn)
        elif name == "young":
            await one.whole_turn()
            await one.accept()
            await one.accept()
        else:
            await one.whole_turn()
    assert await process.journal.unfinished(limit=10) == ("old", "young")
    assert await process.journal.unfinished(limit=1) == ("old",)
