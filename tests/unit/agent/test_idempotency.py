"""The same message under the same ids: one turn, one bill, whatever became of the first one."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.sessions import Receipt
from actors.core.errors import GreenroomError, IdempotencyKeyReused, StoreUnavailable
from actors.testing import ScriptedLLM, calls, says

LOOK = calls(("run_shell", {"command": "ls"}))


@pytest.fixture
def llm() -> ScriptedLLM:
    return ScriptedLLM(otherwise=says("yes"))


async def check_once(world: Any, llm: ScriptedLLM, command: Any) -> None:
    events = [e for e in await world.events(command.session_id) if e.turn_id == command.turn_id]
    types = [e.body.type for e in events]
    assert (types.count("message.accepted"), types.count("turn.started"), types.count("turn.completed")) == (1, 1, 1)
    assert len(llm.requests) == len(await world.attempts())


@pytest.mark.parametrize("fingerprint", [None, "of the body"])
async def test_after_it_has_ended(world: Any, llm: ScriptedLLM, fingerprint: str | None) -> None:
    host = world.host(llm)
    command = world.submit(fingerprint=fingerprint)
    receipt = await host.submit(command)
    first = await host.chat(command, wait_s=5)
    assert await host.chat(command, wait_s=5) == first
    assert await host.submit(command) == receipt
    await check_once(world, llm, command)


async def test_while_it_waits_its_turn(world: Any) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("one")]], otherwise=says("yes"))
    host = world.host(llm)
    await host.submit(world.submit())
    command = world.submit("second", fingerprint="f")
    receipt = await host.submit(command)
    assert (await host.submit(command), receipt.position) == (receipt, 1)
    gate.set()
    assert (await host.chat(command, wait_s=5)).message == "yes"
    await check_once(world, llm, command)


async def test_while_it_waits_for_a_person(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([LOOK])
    host = world.host(llm, approval_tools=("run_shell",))
    command = world.submit(fingerprint="f")
    receipt = await host.submit(command)
    await until(lambda: not host.status().running)
    assert await host.chat(command, wait_s=5) == receipt
    assert len(llm.requests) == 1


@pytest.mark.parametrize("gone", ["passivated", "died", "drained"])
async def test_where_the_session_was_brought_back(world: Any, llm: ScriptedLLM, gone: str) -> None:
    host = world.host(llm)
    command = world.submit(fingerprint="f")
    receipt = await host.submit(command)
    await host.chat(command, wait_s=5)
    if gone == "passivated":
        world.clock.advance(301)
        await host.sweep()
    else:
        await (world.die(host) if gone == "died" else host.drain(grace_s=0))
        host = world.host(llm)
    assert await host.submit(command) == receipt
    # How it ended is in the journal; a session that was brought back does not know it.
    assert isinstance(await host.chat(command, wait_s=5), Receipt)
    with pytest.raises(IdempotencyKeyReused):
        await host.submit(world.submit(message_id=command.message_id, turn_id=command.turn_id, fingerprint="g"))
    await check_once(world, llm, command)


@pytest.mark.parametrize("fingerprint", [None, "of another body"])
async def test_with_another_body_it_is_refused(world: Any, llm: ScriptedLLM, fingerprint: str | None) -> None:
    host = world.host(llm)
    command = world.submit("send 10", fingerprint="of the body")
    await host.chat(command, wait_s=5)
    before = await world.types()
    other = world.submit("send 1000", message_id=command.message_id, turn_id=command.turn_id, fingerprint=fingerprint)
    for call in (host.submit(other), host.chat(other, wait_s=5)):
        with pytest.raises(IdempotencyKeyReused) as caught:
            await call
        assert caught.value.details["turn_id"] == command.turn_id
    assert await world.types() == before
    assert (await world.book.turn(command.turn_id, "user_1")).fingerprint == "of the body"


@pytest.mark.parametrize("arrived", [False, True])
async def test_when_the_answer_of_the_journal_was_lost(world: Any, llm: ScriptedLLM, arrived: bool) -> None:
    """Nobody knows whether the message was written. Sent again, it is there once."""
    line = world.line()
    host = world.host(llm, line=line)
    await host.chat(world.submit(), wait_s=5)
    command = world.submit("second", fingerprint="f")
    append = line.append

    async def lose(what: Any) -> None:
        if arrived:
            await append(what)
        raise StoreUnavailable("the line broke")

    line.append = lose
    with pytest.raises(StoreUnavailable):
        await host.submit(command)
    line.append = append
    assert (await host.chat(command, wait_s=5)).message == "yes"
    types = await world.types()
    assert (types.count("message.accepted"), types.count("turn.completed")) == (2, 2)


async def test_the_first_message_of_a_session_whose_answer_was_lost(world: Any, llm: ScriptedLLM) -> None:
    """The session was created by a request that failed: the same request finds it."""
    line = world.line()
    host = world.host(llm, line=line)
    append = line.append

    async def lose(what: Any) -> None:
        await append(what)
        raise StoreUnavailable("the line broke")

    line.append = lose
    command = world.submit(fingerprint="f")
    with pytest.raises(StoreUnavailable):
        await host.chat(command, wait_s=5)
    line.append = append
    assert (await host.chat(command, wait_s=5)).message == "yes"
    types = await world.types()
    assert (types.count("session.created"), types.count("message.accepted")) == (1, 1)


async def test_sent_by_many_at_once_from_several_hosts(world: Any, llm: ScriptedLLM) -> None:
    """Hosts take the session from each other, as often as they like; the message is in it once."""
    command = world.submit(fingerprint="f")
    hosts = [world.host(llm, turn_max_recoveries=1_000) for _ in range(3)]

    async def insist(host: Any) -> Any:
        async with asyncio.timeout(10):
            while True:
                try:
                    return await host.chat(command, wait_s=5)
                except GreenroomError as error:
                    if not error.retryable:
                        raise
                    await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(insist(host)) for host in hosts for _ in range(3)]
    assert {task.result().turn_id for task in tasks} == {command.turn_id}
    types = await world.types()
    assert (types.count("message.accepted"), types.count("turn.completed")) == (1, 1)
