"""Pause: the step that runs ends, no other begins, and nothing is lost until somebody says to go on."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.orders import Pause, Resume
from actors.agent.sessions import Receipt
from actors.core.errors import Draining, GreenroomError, SessionNotFound
from actors.core.events import TurnWaiting
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

TWO = calls(("run_shell", {"command": "one"}), ("run_shell", {"command": "two"}))


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


async def pause(host: Any) -> None:
    await host.control("sess_1", "user_1", Pause())


async def resume(host: Any) -> None:
    await host.control("sess_1", "user_1", Resume())


async def paused(world: Any, host: Any, llm: ScriptedLLM, gate: asyncio.Event, until: Callable[..., Any]) -> Any:
    """A turn that was paused during its model call, and then answered."""
    command = world.submit("first")
    await host.submit(command)
    await until(lambda: llm.open == 1)
    await pause(host)
    gate.set()
    await until(lambda: not host.status().running)
    return command


async def test_during_a_model_call_its_answer_is_the_last_thing(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *TWO], says("done")])
    sandboxes = FakeSandboxes()
    host = world.host(llm, sandboxes=sandboxes)
    command = await paused(world, host, llm, gate, until)
    assert (await world.types())[-6:] == [
        *("session.paused", "message.completed", "usage.updated", "tool.requested", "tool.requested", "turn.waiting")
    ]
    assert await world.bodies(TurnWaiting) == [TurnWaiting("paused")]
    assert (sandboxes.runs, (await world.book.turn(command.turn_id, "user_1")).status) == ([], "waiting")
    assert (await world.book.get("sess_1", "user_1")).status == "paused"
    await resume(host)
    assert (await host.chat(command, wait_s=5)).message == "done"
    assert [run.source for run in sandboxes.runs] == ["one", "two"]
    # Nothing was asked twice: it went on from where it stood.
    assert (len(llm.requests), len(await world.attempts())) == (2, 2)
    assert "turn.recovering" not in await world.types()


async def test_the_last_answer_ends_the_turn_and_the_next_one_does_not_begin(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *says("done")], says("two"), says("three")])
    host = world.host(llm)
    queued = world.submit("second")
    command = world.submit("first")
    for one in (command, queued):
        await host.submit(one)
    await until(lambda: llm.open == 1)
    await pause(host)
    gate.set()
    assert (await host.chat(command, wait_s=5)).message == "done"
    late = world.submit("third")
    assert (await host.submit(late)).position == 1
    assert (len(llm.requests), host.status().running) == (1, 0)
    assert [waiting.content for waiting in await host.inbox("sess_1", "user_1")] == ["second", "third"]
    await resume(host)
    assert (await host.chat(late, wait_s=5)).message == "three"


async def test_between_tools(world: Any, gate: asyncio.Event, until: Callable[..., Any]) -> None:
    class Gated(FakeSandboxes):
        async def shell(self, session_id: str, command: str, **more: Any) -> Any:
            result = await super().shell(session_id, command, **more)
            await gate.wait()
            return result

    llm, sandboxes = ScriptedLLM([TWO, says("done")]), Gated()
    host = world.host(llm, sandboxes=sandboxes)
    command = world.submit()
    await host.submit(command)
    await until(lambda: len(sandboxes.runs) == 1)
    await pause(host)
    gate.set()
    await until(lambda: not host.status().running)
    types = await world.types()
    assert (types[-2:], types.count("tool.started")) == (["tool.completed", "turn.waiting"], 1)
    await resume(host)
    assert (await host.chat(command, wait_s=5)).message == "done"
    assert [run.source for run in sandboxes.runs] == ["one", "two"]


async def test_said_twice_it_is_written_once(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    await host.chat(world.submit(), wait_s=5)
    for order in (Resume(), Pause(), Pause(), Resume(), Resume()):
        await host.control("sess_1", "user_1", order)
    assert (await world.types())[6:] == ["session.paused", "session.resumed"]
    assert (await host.chat(world.submit(), wait_s=5)).message == "yes"


async def test_what_was_paused_costs_nothing_and_is_left_alone(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *TWO], says("done")])
    host = world.host(llm)
    command = await paused(world, host, llm, gate, until)
    world.clock.advance(301)
    assert (await host.sweep(), host.status().sessions) == (1, ())
    assert await world.journal.unfinished(limit=10) == ()
    assert await world.journal.due(world.clock.now(), limit=10) == ()
    # Asked for its news, it comes into memory and goes no further.
    await host.follow("sess_1", "user_1", after=0, seen={}, wait_s=0)
    assert (host.status().sessions, host.status().running, len(llm.requests)) == (("sess_1",), 0, 1)
    before = await world.types()
    await resume(host)
    assert (await host.chat(command, wait_s=5)).message == "done"
    assert (await world.types())[len(before) :][:2] == ["session.resumed", "turn.resumed"]


async def test_another_host_resumes_it_without_a_recovery(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([[gate, *TWO]])
    host = world.host(llm)
    command = await paused(world, host, llm, gate, until)
    await world.die(host)
    other_llm = ScriptedLLM([says("done")])
    other = world.host(other_llm)
    await resume(other)
    assert (await other.chat(command, wait_s=5)).message == "done"
    assert "turn.recovering" not in await world.types()
    assert len(other_llm.requests) == 1


async def test_a_host_that_dies_amid_the_last_step_leaves_it_paused(world: Any, until: Callable[..., Any]) -> None:
    """The step did not end; it is taken up when the session is resumed, and not before."""
    llm = ScriptedLLM([[TextDelta("I"), asyncio.Event()]])
    host = world.host(llm)
    command = world.submit()
    await host.submit(command)
    await until(lambda: llm.open == 1)
    await pause(host)
    await world.die(host)
    assert await world.journal.unfinished(limit=10) == ()
    other_llm = ScriptedLLM([says("done")])
    other = world.host(other_llm)
    await other.wake("sess_1")
    assert (other.status().running, other_llm.requests) == (0, [])
    await resume(other)
    assert (await other.chat(command, wait_s=5)).message == "done"
    assert (await world.types()).count("turn.recovering") == 1
    assert [attempt.outcome for attempt in await world.attempts()] == ["lost", "stop"]


async def test_resumed_while_its_pausing_is_being_written_it_goes_on_whoever_dies(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    """Between the two commits the journal says that the turn goes on by itself: somebody is sent to see to it."""
    line = world.line()
    llm = ScriptedLLM([[gate, *TWO], says("done")])
    host = world.host(llm, line=line)
    command = world.submit("first")
    await host.submit(command)
    await until(lambda: llm.open == 1)
    await pause(host)
    line.hold()
    gate.set()
    await until(lambda: line.waiting == 1)  # the answer and `turn.waiting`
    resumed = asyncio.create_task(_outcome(resume(host)))
    while "session.resumed" not in (await world.types()):
        sent = len(line.appends)
        line.release()
        line.hold()  # one more may pass
        await until(lambda sent=sent: len(line.appends) > sent)  # the next is sent when that one is written
    assert (await world.types())[-2:] == ["turn.waiting", "session.resumed"]
    assert await world.journal.unfinished(limit=10) == ("sess_1",)
    await world.die(host)
    await resumed
    other_llm = ScriptedLLM([says("done")])
    other = world.host(other_llm)
    await other.wake("sess_1")
    assert (await other.chat(command, wait_s=5)).message == "done"
    assert (await world.types()).count("turn.recovering") == 0


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except GreenroomError as error:
        return error


async def test_cancel_while_paused(
    world: Any, gate: asyncio.Event, until: Callable[..., Any], check_openai: Any
) -> None:
    llm = ScriptedLLM([[gate, *TWO]])
    host = world.host(llm)
    command = await paused(world, host, llm, gate, until)
    result = await host.cancel("sess_1", "user_1", command.turn_id)
    assert (result.status, result.stopped) == ("cancelled", ())
    assert [(tool.error, tool.content) for tool in result.tools] == [
        ("stopped", "Not run: the turn was cancelled."),
    ] * 2
    check_openai((await world.state()).transcript)
    assert (await world.book.get("sess_1", "user_1")).status == "paused"


async def test_whoever_waits_for_the_turn_gets_the_receipt(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    """And not only when its wait runs out: nothing is going to happen until a person says so."""
    llm = ScriptedLLM([[gate, *TWO], says("done")])
    host = world.host(llm)
    command, queued = world.submit("first"), world.submit("second")
    waiting = [asyncio.create_task(host.chat(one, wait_s=60)) for one in (command, queued)]
    await until(lambda: llm.open == 1)
    await pause(host)
    gate.set()
    done, pending = await asyncio.wait(waiting, timeout=5)
    assert not pending
    assert {type(task.result()) for task in done} == {Receipt}
    again = asyncio.create_task(host.chat(command, wait_s=60))
    assert isinstance(await asyncio.wait_for(again, 5), Receipt)


async def test_is_not_for_others(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    await host.chat(world.submit(), wait_s=5)
    for order in (Pause(), Resume()):
        with pytest.raises(SessionNotFound):
            await host.control("sess_1", "user_2", order)
    assert len(await world.types()) == 6


async def test_a_host_that_leaves_takes_what_is_for_a_turn_that_still_ends_there_and_nothing_afterwards(
    world: Any, gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    """Sent elsewhere, it would take the turn away in its midst."""
    llm = ScriptedLLM([[gate, *TWO], says("done")])
    host = world.host(llm, sandboxes=FakeSandboxes())
    await host.submit(world.submit("first"))
    await until(lambda: llm.open == 1)
    draining = asyncio.create_task(host.drain(grace_s=5))
    await until(lambda: host._sessions["sess_1"]._leaving)
    queued = await host.submit(world.submit("second"))
    await pause(host)
    gate.set()
    await draining
    assert queued.position == 1
    types = await world.types()
    assert "session.paused" in types
    assert "turn.recovering" not in types
    with pytest.raises(Draining):
        await pause(host)
