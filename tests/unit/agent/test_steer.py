"""Messages that come ahead of the queue: those that steer the turn that runs, and those that interrupt it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.orders import Edit, Pause, Resolve, Resume, Withdraw
from actors.agent.sessions import TurnResult
from actors.core.errors import MessageNotWaiting
from actors.core.events import MessageSteered, Spent, TurnCancelled, TurnCompleted
from actors.core.messages import UserMessage
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says

LOOK = calls(("run_shell", {"command": "ls"}))


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


def said(llm: ScriptedLLM, number: int = -1) -> list[str]:
    """What users had said, as the model read it in a request."""
    return [message.content for message in llm.requests[number].messages if isinstance(message, UserMessage)]


async def started(world: Any, host: Any, llm: ScriptedLLM, until: Callable[..., Any]) -> Any:
    """The message of a turn that runs."""
    command = world.submit("first")
    await host.submit(command)
    await until(lambda: llm.open == 1)
    return command


# Steering ------------------------------------------------------------------------------------------------


async def test_is_read_by_the_turn_that_runs_at_its_next_step(
    world: Any, gate: asyncio.Event, until: Callable[..., Any], check_anthropic: Callable[..., None]
) -> None:
    llm = ScriptedLLM([[gate, *LOOK], says("As you say."), says("third")])
    line = world.line()
    host = world.host(llm, line=line)
    first = await started(world, host, llm, until)
    queued, steer = world.submit("later"), world.submit("In French!", on_busy="steer")
    await host.submit(queued)
    steered = asyncio.create_task(host.chat(steer, wait_s=5))
    await until(lambda: len(line.appends) == 3)
    gate.set()
    assert (await host.chat(first, wait_s=5)).message == "As you say."
    result = await steered
    assert (result.status, result.stop_reason, result.steps, result.message) == ("completed", "steered", 0, "")
    assert result.spent == Spent()
    await host.chat(queued, wait_s=5)
    assert [said(llm, number) for number in range(3)] == [
        ["first"],
        ["first", "In French!"],
        ["first", "In French!", "later"],
    ]
    check_anthropic((await world.state()).transcript)
    assert await world.bodies(MessageSteered) == [MessageSteered(steer.message_id, first.turn_id)]
    # Its own turn ends with that, in one append: no host may die between the two.
    (append,) = [a for a in line.appends if any(isinstance(e.body, MessageSteered) for e in a.events)]
    ends = [e for e in append.events if e.turn_id == steer.turn_id]
    assert [e.body.type for e in ends] == ["message.steered", "turn.completed"]
    assert (await world.book.turn(steer.turn_id, "user_1")).outcome == TurnCompleted("steered", 0, Spent())


async def test_not_taken_it_is_the_next_turn(world: Any, gate: asyncio.Event, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[gate, *says("I am done.")], says("In French."), says("later")])
    host = world.host(llm)
    first = await started(world, host, llm, until)
    queued, steer = world.submit("later"), world.submit("In French!", on_busy="steer")
    for command in (queued, steer):
        await host.submit(command)
    gate.set()
    assert (await host.chat(first, wait_s=5)).message == "I am done."
    result = await host.chat(steer, wait_s=5)
    assert (result.stop_reason, result.message) == ("end_turn", "In French.")
    await host.chat(queued, wait_s=5)
    assert said(llm) == ["first", "In French!", "later"]
    assert await world.bodies(MessageSteered) == []


async def test_at_a_limit_it_is_the_next_turn_too(world: Any, gate: asyncio.Event, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[gate, *LOOK], says("next")])
    host = world.host(llm, turn_max_steps=1)
    first = await started(world, host, llm, until)
    steer = world.submit("stop that", on_busy="steer")
    await host.submit(steer)
    gate.set()
    assert (await host.chat(first, wait_s=5)).stop_reason == "max_steps"
    assert (await host.chat(steer, wait_s=5)).message == "next"


async def test_where_nothing_runs_it_is_a_message_like_any_other(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    for _ in range(2):
        result = await host.chat(world.submit(on_busy="steer"), wait_s=5)
        assert (result.stop_reason, result.message) == ("end_turn", "yes")


async def test_several_are_taken_at_once_in_their_order(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *LOOK], says("ok")])
    host = world.host(llm)
    first = await started(world, host, llm, until)
    for text in ("one", "two", "three"):
        await host.submit(world.submit(text, on_busy="steer"))
    gate.set()
    await host.chat(first, wait_s=5)
    assert said(llm) == ["first", "one", "two", "three"]


async def test_until_then_it_waits_and_may_be_changed_or_taken_back(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *LOOK], says("ok")])
    host = world.host(llm)
    first = await started(world, host, llm, until)
    kept, dropped = (world.submit(text, on_busy="steer") for text in ("kept", "dropped"))
    for command in (kept, dropped):
        await host.submit(command)
    await host.control("sess_1", "user_1", Edit(kept.message_id, "changed"))
    await host.control("sess_1", "user_1", Withdraw(dropped.message_id))
    gate.set()
    await host.chat(first, wait_s=5)
    assert said(llm) == ["first", "changed"]
    for order in (Edit(kept.message_id, "too late"), Withdraw(kept.message_id)):
        with pytest.raises(MessageNotWaiting):
            await host.control("sess_1", "user_1", order)


@pytest.mark.parametrize("taken", [False, True])
async def test_it_is_read_once_although_the_host_dies(world: Any, until: Callable[..., Any], taken: bool) -> None:
    """Before it was taken it is taken elsewhere; after that it is part of what was said."""
    never = asyncio.Event()
    llm = ScriptedLLM([LOOK, [never]] if taken else [[never]])
    dead = world.host(llm)
    first, steer = world.submit("first"), world.submit("In French!", on_busy="steer")
    for command in (first, steer):
        await dead.submit(command)
    await until(lambda: len(llm.requests) == (2 if taken else 1))
    await world.die(dead)
    other = ScriptedLLM([says("Oui.")])
    assert (await world.host(other).chat(first, wait_s=5)).message == "Oui."
    assert said(other) == ["first", "In French!"]
    assert len(await world.bodies(MessageSteered)) == 1


async def test_it_is_told_although_the_turn_that_took_it_is_cancelled_in_that_moment(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    line = world.line()
    llm = ScriptedLLM([[gate, *LOOK], says("never asked")])
    host = world.host(llm, line=line)
    first = await started(world, host, llm, until)
    steer = world.submit("In French!", on_busy="steer")
    steered = asyncio.create_task(host.chat(steer, wait_s=5))
    await until(lambda: len(line.appends) == 2)
    state = host._sessions["sess_1"].log.state
    line.hold()
    gate.set()
    await until(lambda: line.waiting == 1)
    line.release()
    line.hold()  # the answer and the start of its tool may pass
    await until(lambda: steer.turn_id not in state.turns)
    cancelled = asyncio.create_task(host.cancel("sess_1", "user_1", first.turn_id))
    await asyncio.sleep(0)
    line.release()
    assert (await cancelled).status == "cancelled"
    assert (await steered).stop_reason == "steered"
    assert len(llm.requests) == 1


async def test_it_waits_behind_an_approval(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([LOOK, says("ok")])
    host = world.host(llm, approval_tools=("run_shell",))
    first, steer = world.submit("first"), world.submit("In French!", on_busy="steer")
    await host.submit(first)
    await until(lambda: not host.status().running)
    assert (await host.submit(steer)).position == 1
    asked = next(e.body for e in await world.events() if e.body.type == "approval.requested")
    await host.control("sess_1", "user_1", Resolve(asked.approval_id, "approve", None, "user_1"))
    assert isinstance(await host.chat(first, wait_s=5), TurnResult)
    assert said(llm) == ["first", "In French!"]


# Interrupting --------------------------------------------------------------------------------------------


async def test_an_interrupt_stops_the_turn_and_goes_ahead_of_the_queue(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[TextDelta("Well, "), asyncio.Event()], says("now"), says("later")])
    host = world.host(llm)
    first = await started(world, host, llm, until)
    queued = world.submit("later")
    await host.submit(queued)
    waiting = asyncio.create_task(host.chat(first, wait_s=5))
    now = world.submit("Stop. Now this.", on_busy="interrupt")
    assert (await host.chat(now, wait_s=5)).message == "now"
    result = await waiting
    assert (result.status, result.message, result.stopped) == ("cancelled", "Well, ", ("model",))
    await host.chat(queued, wait_s=5)
    assert said(llm) == ["first", "Stop. Now this.", "later"]
    assert (await world.types()).count("turn.cancelled") == 1


async def test_where_nothing_runs_an_interrupt_is_a_message_like_any_other(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    for _ in range(2):
        assert (await host.chat(world.submit(on_busy="interrupt"), wait_s=5)).message == "yes"
    assert await world.bodies(TurnCancelled) == []


async def test_an_interrupt_that_is_sent_again_interrupts_nothing_more(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()], [asyncio.Event()]])
    host = world.host(llm)
    await started(world, host, llm, until)
    now = world.submit("now", on_busy="interrupt")
    await host.submit(now)
    await until(lambda: len(llm.requests) == 2 and llm.open == 1)
    await host.submit(now)
    await asyncio.sleep(0.01)
    assert (llm.open, len(await world.bodies(TurnCancelled))) == (1, 1)


async def test_an_interrupt_whose_sender_goes_away_stops_the_turn_all_the_same(
    world: Any, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[asyncio.Event()], says("now")])
    host = world.host(llm)
    first = await started(world, host, llm, until)
    now = world.submit("now", on_busy="interrupt")
    sender = asyncio.create_task(host.submit(now))
    await asyncio.sleep(0)
    sender.cancel()
    await until(lambda: len(llm.requests) == 2)
    assert (await host.chat(first, wait_s=5)).status == "cancelled"
    assert (await host.chat(now, wait_s=5)).message == "now"


async def test_of_a_turn_that_waits_for_a_person_the_interrupt_is_told_to_those_who_wait(
    world: Any, until: Callable[..., Any], check_openai: Callable[..., None]
) -> None:
    llm = ScriptedLLM([LOOK, says("now")])
    host = world.host(llm, approval_tools=("run_shell",))
    first = world.submit("first")
    await host.submit(first)
    await until(lambda: not host.status().running)
    now = world.submit("never mind", on_busy="interrupt")
    assert (await host.chat(now, wait_s=5)).message == "now"
    result = await host.chat(first, wait_s=5)
    assert (result.status, [tool.error for tool in result.tools]) == ("cancelled", ["stopped"])
    assert [row.status for row in (await world.approvals())] == ["cancelled"]
    check_openai((await world.state()).transcript)


async def test_in_a_paused_session_an_interrupt_stops_the_turn_and_waits(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *LOOK], says("now")])
    host = world.host(llm)
    first = await started(world, host, llm, until)
    await host.control("sess_1", "user_1", Pause())
    gate.set()
    await until(lambda: not host.status().running)
    now = world.submit("now", on_busy="interrupt")
    await host.submit(now)
    assert (await host.chat(first, wait_s=5)).status == "cancelled"
    assert len(llm.requests) == 1
    await host.control("sess_1", "user_1", Resume())
    assert (await host.chat(now, wait_s=5)).message == "now"


async def test_of_several_put_ahead_the_first_comes_first(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()]], otherwise=says("yes"))
    host = world.host(llm)
    await started(world, host, llm, until)
    texts = {"queue": "enqueue", "one": "steer", "two": "interrupt"}
    commands = [world.submit(text, on_busy=on_busy) for text, on_busy in texts.items()]
    for command in commands:
        await host.submit(command)
    await host.chat(commands[0], wait_s=5)
    assert said(llm) == ["first", "one", "two", "queue"]
