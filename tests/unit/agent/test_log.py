"""The writing desk of a session: what was staged is durable when `flush` returns, or the session is lost."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from actors.agent.journal import FIRST_EPOCH
from actors.agent.log import SessionLog
from actors.agent.state import SessionState
from actors.core.errors import GreenroomError
from actors.core.events import MessageAccepted, SessionCreated
from actors.ledger.book import AttemptOpened
from actors.llm.base import ModelRequest, StreamItem
from actors.testing import ScriptedLLM, says


@pytest.fixture
async def line(world: Any) -> Any:
    return world.line()


@pytest.fixture
async def log(world: Any, line: Any) -> SessionLog:
    log = SessionLog(SessionState("sess_1"), epoch=FIRST_EPOCH, journal=line, clock=world.clock, delta_interval_s=0)
    log.stage(SessionCreated("user_1", "scripted"))
    return log


def attempt(world: Any, number: int) -> AttemptOpened:
    return AttemptOpened(f"att_{number}", "turn_1", "sess_1", "user_1", "scripted", world.clock.now())


async def test_what_is_staged_while_a_flush_is_under_way_is_flushed_too(
    world: Any, line: Any, log: SessionLog, until: Callable[..., Any]
) -> None:
    line.hold()
    first = asyncio.create_task(log.flush())
    await until(lambda: line.waiting == 1)
    log.stage(MessageAccepted("msg_1", "hi"), "turn_1")
    second = asyncio.create_task(log.flush())
    line.release()
    await asyncio.wait([first, second])
    assert await world.types() == ["session.created", "message.accepted"]
    assert [len(append.events) for append in line.appends] == [1, 1]


async def test_what_is_staged_together_is_one_append(log: SessionLog, line: Any) -> None:
    log.stage(MessageAccepted("msg_1", "hi"), "turn_1")
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(log.flush())
    assert [len(append.events) for append in line.appends] == [2]


async def test_a_ledger_entry_is_durable_when_flush_returns_even_without_an_event_beside_it(
    world: Any, log: SessionLog, line: Any, until: Callable[..., Any]
) -> None:
    """As when a message comes in the moment in which the next turn starts, and takes its events along.

    Without the row nothing would say that money may have been spent, should the process die in the call.
    """
    line.hold()
    flushed = asyncio.create_task(log.flush())
    await until(lambda: line.waiting == 1)
    log.stage_attempt(attempt(world, 1))
    asked = asyncio.create_task(log.flush())
    line.release()
    await asyncio.wait([flushed, asked])
    assert [row.id for row in await world.attempts()] == ["att_1"]


async def test_an_attempt_is_on_the_books_before_the_model_is_asked(world: Any) -> None:
    seen: list[int] = []

    class Watched(ScriptedLLM):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
            seen.append(sum(row.state == "dispatched" for row in await world.attempts()))
            async for item in super().stream(request):
                yield item

    host = world.host(Watched(otherwise=says("yes")))
    for _ in range(3):
        await host.chat(world.submit(), wait_s=5)
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("refusal", [GreenroomError("no"), ValueError("half a surrogate pair"), RuntimeError("closed")])
async def test_whatever_the_journal_refuses_is_never_acknowledged(
    world: Any, until: Callable[..., Any], refusal: Exception
) -> None:
    """A message whose append failed must not look accepted when it is sent again."""
    line = world.line()
    host = world.host(ScriptedLLM(otherwise=says("yes")), line=line)
    await host.chat(world.submit(), wait_s=5)
    line.refusal = refusal
    command = world.submit("second")
    with pytest.raises(type(refusal)):
        await host.submit(command)
    with pytest.raises((GreenroomError, type(refusal))):
        await host.submit(command)
    line.refusal = None
    receipt = await host.submit(command)
    accepted = [e for e in await world.events() if isinstance(e.body, MessageAccepted)]
    assert [e.body.message_id for e in accepted][1:] == [command.message_id]
    assert receipt.seq == accepted[-1].seq


async def test_once_lost_nothing_is_written_any_more(world: Any, log: SessionLog, line: Any) -> None:
    await log.flush()
    line.refusal = GreenroomError("no")
    log.stage(MessageAccepted("msg_1", "hi"), "turn_1")
    with pytest.raises(GreenroomError):
        await log.flush()
    line.refusal = None
    log.stage(MessageAccepted("msg_2", "hi"), "turn_2")
    with pytest.raises(GreenroomError):
        await log.flush()
    assert await world.types() == ["session.created"]


async def test_a_caller_that_is_cancelled_leaves_its_events_on_their_way(
    world: Any, log: SessionLog, line: Any, until: Callable[..., Any]
) -> None:
    line.hold()
    flushed = asyncio.create_task(log.flush())
    await until(lambda: line.waiting == 1)
    flushed.cancel()
    await asyncio.wait([flushed])
    line.release()
    log.stage(MessageAccepted("msg_1", "hi"), "turn_1")
    await log.flush()
    assert await world.types() == ["session.created", "message.accepted"]


async def test_the_title_is_kept_when_it_comes_and_not_written_again(world: Any, log: SessionLog, line: Any) -> None:
    await log.flush()
    for number in range(3):
        log.stage(MessageAccepted(f"msg_{number}", f"message {number}"), f"turn_{number}")
        await log.flush()
    profiles = [append.profile and append.profile.title for append in line.appends]
    assert profiles == [None, "message 0", None, None]
    assert (await world.book.get("sess_1", "user_1")).title == "message 0"
