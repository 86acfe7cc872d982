"""Hosts come and go, on purpose or not: the journal says what to go on with, and only one of them may write."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.orders import Edit, Resolve
from actors.agent.sessions import TurnResult
from actors.agent.state import OUTCOME_UNKNOWN
from actors.core.errors import (
    Draining,
    Fenced,
    GreenroomError,
    ModelUnavailable,
    SandboxUnavailable,
    SessionBusy,
    SessionLost,
)
from actors.core.events import ToolCompleted, ToolOutcomeUnknown, TurnCompleted, TurnFailed, UsageUpdated
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes


async def settled(host: Any, world: Any, command: Any) -> TurnResult:
    """The turn of a message that was sent before, brought to its end by this host."""
    result = await host.chat(command, wait_s=5)
    assert isinstance(result, TurnResult), await world.types()
    return result


async def test_a_passivated_session_goes_on_where_it_was(world: Any) -> None:
    llm = ScriptedLLM([says("one"), says("two")])
    host = world.host(llm)
    await host.chat(world.submit("first"), wait_s=5)
    before = host._sessions["sess_1"].log.state
    world.clock.advance(301)
    assert (await host.sweep(), host.status().sessions) == (1, ())
    await host.wake("sess_1")
    assert host._sessions["sess_1"].log.state == before
    await host.chat(world.submit("second", new=None), wait_s=5)
    assert [message.content for message in llm.requests[1].messages[1:]] == ["first", "one", "second"]


async def test_another_host_goes_on_with_the_queue(world: Any, until: Callable[..., Any]) -> None:
    first = ScriptedLLM([[TextDelta("I"), asyncio.Event()]])
    dead = world.host(first)
    commands = [world.submit(text) for text in ("first", "second", "third")]
    for command in commands:
        await dead.submit(command)
    await until(lambda: first.open == 1)
    await world.die(dead)
    second = ScriptedLLM(otherwise=says("yes"))
    assert (await settled(world.host(second), world, commands[2])).message == "yes"
    assert [message.content for message in second.requests[2].messages[1:]] == [
        *("first", "yes", "second", "yes", "third"),
    ]
    assert (await world.types()).count("turn.recovering") == 1


async def test_a_model_call_that_was_cut_off_is_repeated_under_its_own_number(
    world: Any, until: Callable[..., Any]
) -> None:
    first = ScriptedLLM([[TextDelta("I "), asyncio.Event()]])
    dead = world.host(first)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: first.open == 1)
    await world.die(dead)
    result = await settled(world.host(ScriptedLLM([says("I am back")])), world, command)
    assert (result.message, result.steps) == ("I am back", 1)
    assert [(a.state, a.outcome) for a in await world.attempts()] == [("ended", "lost"), ("settled", "stop")]


async def test_what_a_lost_attempt_cost_is_not_known(world: Any, until: Callable[..., Any]) -> None:
    """The first call may have been billed: a total that claims to be known would be too low."""
    first = ScriptedLLM([[TextDelta("I "), asyncio.Event()]])
    dead = world.host(first)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: first.open == 1)
    await world.die(dead)
    result = await settled(world.host(ScriptedLLM([says("I am back")])), world, command)
    assert (result.spent.cost_micros, result.spent.cost_known) == (10, False)
    assert not (await world.book.get("sess_1", "user_1")).spent.cost_known


async def test_a_tool_that_was_running_is_not_run_again(
    world: Any, until: Callable[..., Any], check_openai: Callable[..., None]
) -> None:
    wanted = [("run_shell", {"command": command}) for command in ("done", "sleep", "later")]
    ids = ["id_1", "id_2", "id_3"]
    sandboxes = FakeSandboxes(hanging=["sleep"])
    dead = world.host(ScriptedLLM([calls(*wanted, ids=ids)]), sandboxes=sandboxes)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: len(sandboxes.runs) == 2)
    await world.die(dead)
    fresh = FakeSandboxes()
    llm = ScriptedLLM([says("Sorry.")])
    result = await settled(world.host(llm, sandboxes=fresh), world, command)
    assert [run.source for run in fresh.runs] == ["later"]
    assert await world.bodies(ToolOutcomeUnknown) == [ToolOutcomeUnknown("id_2", "run_shell")]
    assert [body.tool_call_id for body in await world.bodies(ToolCompleted)] == ["id_1", "id_3"]
    assert [tool.error for tool in result.tools] == [None, "outcome_unknown", None]
    # The model is told, in the place where it waits for the result.
    told = llm.requests[0].messages
    assert OUTCOME_UNKNOWN in [message.content for message in told]
    check_openai(told)


class Stubborn(FakeSandboxes):
    """Stops what runs only when it is let."""

    def __init__(self) -> None:
        super().__init__(hanging=["sleep"])
        self.may_stop = asyncio.Event()

    async def interrupt(self, session_id: str) -> None:
        await self.may_stop.wait()
        await super().interrupt(session_id)


async def killed_in_a_tool(world: Any, until: Callable[..., Any], sandboxes: FakeSandboxes, *wanted: Any) -> Any:
    """The message, and what its tool still runs: the sandbox hears nothing of the death of whoever asked."""
    dead = world.host(ScriptedLLM([calls(("run_shell", {"command": "sleep"}), *wanted)]), sandboxes=sandboxes)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: len(sandboxes.runs) == 1)
    await world.die(dead)
    left = asyncio.create_task(sandboxes.shell("sess_1", "sleep", timeout_s=300))
    await until(lambda: len(sandboxes.runs) == 2)
    return command, left


async def test_what_a_lost_tool_runs_is_stopped_before_another_tool_runs(world: Any, until: Callable[..., Any]) -> None:
    sandboxes = Stubborn()
    command, left = await killed_in_a_tool(world, until, sandboxes)
    llm = ScriptedLLM([calls(("run_shell", {"command": "next"})), says("Done.")])
    host = world.host(llm, sandboxes=sandboxes)
    await host.wake("sess_1")
    await until(lambda: len(llm.requests) == 1)  # the model need not wait for it
    await until(lambda: bool(host._sessions["sess_1"].log.state.running.open_calls()))
    assert [run.source for run in sandboxes.runs] == ["sleep", "sleep"]
    sandboxes.may_stop.set()
    assert (await asyncio.wait_for(left, 5)).verdict == "cancelled"
    assert (await settled(host, world, command)).message == "Done."
    assert [run.source for run in sandboxes.runs] == ["sleep", "sleep", "next"]
    assert sandboxes.interrupted == ["sess_1"]


@pytest.mark.parametrize("end", ["cancel", "recovery_limit"])
async def test_what_a_lost_tool_runs_is_stopped_when_its_turn_goes_no_further(
    world: Any, until: Callable[..., Any], end: str
) -> None:
    sandboxes = FakeSandboxes(hanging=["sleep"])
    command, left = await killed_in_a_tool(world, until, sandboxes)
    host = world.host(ScriptedLLM([[asyncio.Event()]]), sandboxes=sandboxes, turn_max_recoveries=int(end == "cancel"))
    result = await (
        host.cancel("sess_1", "user_1", command.turn_id) if end == "cancel" else host.chat(command, wait_s=5)
    )
    assert result.status == {"cancel": "cancelled", "recovery_limit": "failed"}[end]
    assert (await asyncio.wait_for(left, 5)).verdict == "cancelled"


async def test_the_next_recovery_stops_what_the_one_before_it_did_not_come_to(
    world: Any, until: Callable[..., Any]
) -> None:
    sandboxes = Stubborn()
    command, left = await killed_in_a_tool(world, until, sandboxes)
    llm = ScriptedLLM([[asyncio.Event()]])
    second = world.host(llm, sandboxes=sandboxes)
    await second.wake("sess_1")
    await until(lambda: llm.open == 1)
    await world.die(second)
    fresh = FakeSandboxes()
    assert (await settled(world.host(ScriptedLLM([says("Done.")]), sandboxes=fresh), world, command)).message == "Done."
    await until(lambda: fresh.interrupted == ["sess_1"])
    sandboxes.may_stop.set()
    assert (await asyncio.wait_for(left, 5)).verdict == "cancelled"


async def test_a_recovery_goes_on_without_the_sandbox(world: Any, until: Callable[..., Any], logs: list[Any]) -> None:
    command, left = await killed_in_a_tool(world, until, FakeSandboxes(hanging=["sleep"]))
    left.cancel()
    away = FakeSandboxes(unavailable=SandboxUnavailable("away"))
    host = world.host(ScriptedLLM([calls(("run_shell", {"command": "next"})), says("Sorry.")]), sandboxes=away)
    assert (await settled(host, world, command)).message == "Sorry."
    assert away.interrupted == ["sess_1"]
    assert [log["session_id"] for log in logs if log["event"] == "a lost tool could not be stopped"] == ["sess_1"]


async def test_a_recovery_waits_for_no_sandbox_for_ever(
    world: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.agent.tool_calls.STOP_S", 0.01)
    sandboxes = Stubborn()
    command, left = await killed_in_a_tool(world, until, sandboxes, ("run_shell", {"command": "next"}))
    host = world.host(ScriptedLLM([says("Done.")]), sandboxes=sandboxes)
    assert (await settled(host, world, command)).message == "Done."
    assert [run.source for run in sandboxes.runs] == ["sleep", "sleep", "next"]
    left.cancel()


async def test_without_a_tool_that_ran_no_sandbox_is_asked(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()]])
    dead = world.host(llm)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: llm.open == 1)
    await world.die(dead)
    sandboxes = FakeSandboxes()
    await settled(world.host(ScriptedLLM([says("back")]), sandboxes=sandboxes), world, command)
    assert sandboxes.interrupted == []


async def test_what_was_finished_is_not_repeated(world: Any, until: Callable[..., Any]) -> None:
    first = ScriptedLLM([calls(("run_shell", {"command": "once"})), [asyncio.Event()]])
    sandboxes = FakeSandboxes()
    dead = world.host(first, sandboxes=sandboxes)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: first.open == 1 and len(first.requests) == 2)
    await world.die(dead)
    second = ScriptedLLM([says("Done.")])
    result = await settled(world.host(second, sandboxes=sandboxes), world, command)
    assert (len(second.requests), [run.source for run in sandboxes.runs]) == (1, ["once"])
    assert (result.steps, result.spent.cost_micros) == (2, 20)
    assert await world.bodies(TurnCompleted) == [TurnCompleted("end_turn", 2, result.spent)]
    assert sum(body.spent.cost_micros for body in await world.bodies(UsageUpdated)) == 20


async def test_a_turn_that_kills_its_hosts_is_given_up(world: Any, until: Callable[..., Any]) -> None:
    command = world.submit()
    for number in range(3):
        llm = ScriptedLLM([[asyncio.Event()]])
        host = world.host(llm, turn_max_recoveries=2)
        await (host.wake("sess_1") if number else host.submit(command))
        await until(lambda llm=llm: llm.open == 1)
        await world.die(host)
    last = ScriptedLLM([says("never asked")])
    result = await settled(world.host(last, turn_max_recoveries=2), world, command)
    assert result.error is not None
    assert (result.status, result.error.code, last.requests) == ("failed", "recovery_limit", [])
    assert [body.error.code for body in await world.bodies(TurnFailed)] == ["recovery_limit"]
    assert (await world.types()).count("turn.recovering") == 3


async def test_given_up_the_queue_goes_on(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()]])
    dead = world.host(llm)
    commands = [world.submit("poison"), world.submit("harmless")]
    for command in commands:
        await dead.submit(command)
    await until(lambda: llm.open == 1)
    await world.die(dead)
    host = world.host(ScriptedLLM([says("fine")]), turn_max_recoveries=0)
    assert (await settled(host, world, commands[1])).message == "fine"


@pytest.mark.parametrize("script", [[TextDelta("I"), ModelUnavailable()], says("from the zombie")])
async def test_an_overtaken_host_writes_nothing_more(world: Any, until: Callable[..., Any], script: Any) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *script]])
    zombie = world.host(llm)
    command = world.submit()
    waiting = asyncio.create_task(zombie.chat(command, wait_s=5))
    await until(lambda: llm.open == 1)
    reading = asyncio.create_task(zombie.follow("sess_1", "user_1", after=3, seen={}, wait_s=5))
    owner = world.host(ScriptedLLM([says("from the owner")]))
    assert (await settled(owner, world, command)).message == "from the owner"
    events = await world.events()
    gate.set()
    with pytest.raises(Fenced) as caught:
        await waiting
    assert caught.value.retryable
    # The reader may still see text that was given up; then it is told to ask again, where the owner may be.
    outcome = await asyncio.wait([reading], timeout=5)
    assert outcome[0]
    assert reading.exception() is None or isinstance(reading.exception(), Fenced)
    batch = await zombie.follow("sess_1", "user_1", after=0, seen={}, wait_s=5, activate=True)
    assert batch.events == tuple(events)
    assert await world.events() == events


@pytest.mark.parametrize(
    "ask",
    [
        lambda host, message: host.control("sess_1", "user_1", Edit(message.message_id, "2nd")),
        lambda host, _: host.control("sess_1", "user_1", Resolve("appr_9", "deny", None, "user_1")),
        lambda host, message: host.cancel("sess_1", "user_1", message.turn_id),
        lambda host, _: host.inbox("sess_1", "user_1"),
    ],
)
async def test_a_host_that_was_overtaken_and_does_not_know_it_refuses_nothing(
    world: Any, until: Callable[..., Any], ask: Callable[..., Any]
) -> None:
    """What it knows is old: it must not say that there is no such thing, nor that all is over."""
    zombie = world.host(ScriptedLLM([says("hi")]))
    await zombie.chat(world.submit(), wait_s=5)
    owner = world.host(ScriptedLLM(otherwise=[asyncio.Event()]))
    await owner.submit(world.submit("first"))
    queued = world.submit("second")
    await owner.submit(queued)
    with pytest.raises(Fenced):
        await ask(zombie, queued)
    assert zombie.status().sessions == ()
    assert [waiting.content for waiting in await owner.inbox("sess_1", "user_1")] == ["second"]


async def test_nor_is_it_busy(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()]])
    zombie = world.host(llm)
    await zombie.submit(world.submit())
    await until(lambda: llm.open == 1)
    with pytest.raises(SessionBusy):
        await zombie.submit(world.submit(on_busy="reject"))
    await world.journal.activate("sess_1")
    with pytest.raises(Fenced):
        await zombie.submit(world.submit(on_busy="reject"))


async def test_to_be_overtaken_is_no_unhandled_error(world: Any, until: Callable[..., Any]) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    llm = ScriptedLLM([[asyncio.Event()]])
    zombie = world.host(llm)
    await zombie.submit(world.submit())
    await until(lambda: llm.open == 1)
    await world.journal.activate("sess_1")
    with pytest.raises(Fenced):
        await zombie.submit(world.submit())
    await until(lambda: llm.open == 0)
    await until(lambda: not any(task.get_name().startswith("turn") for task in asyncio.all_tasks()))
    gc.collect()
    assert complaints == []


async def test_everybody_who_waits_for_a_turn_of_a_lost_session_is_told(world: Any, until: Callable[..., Any]) -> None:
    """Not only who waits for the turn that ran: the queued ones do not run here either."""
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("late")]])
    zombie = world.host(llm)
    commands = [world.submit("first"), world.submit("second")]
    waiting = [asyncio.create_task(zombie.chat(command, wait_s=30)) for command in commands]
    await until(lambda: llm.open == 1 and len(zombie._sessions["sess_1"]._results._waiters) == 2)
    await world.journal.activate("sess_1")
    gate.set()
    done, pending = await asyncio.wait(waiting, timeout=3)
    assert not pending, "a caller was left waiting"
    assert all(isinstance(task.exception(), GreenroomError) for task in done)


async def test_whoever_begins_to_wait_when_the_session_was_lost_is_told(world: Any, until: Callable[..., Any]) -> None:
    """As when it is lost between the acceptance of a message and the wait for its turn."""
    llm = ScriptedLLM([[asyncio.Event()]])
    host = world.host(llm)
    command = world.submit()
    await host.submit(command)
    session = host._sessions["sess_1"]
    session.log.lose(SessionLost())
    with pytest.raises(SessionLost):
        await asyncio.wait_for(session.result(command.turn_id, wait_s=60), 5)


async def test_drain_leaves_the_turn_to_the_next_host(world: Any, until: Callable[..., Any]) -> None:
    first = ScriptedLLM([[TextDelta("half a "), asyncio.Event()]])
    host = world.host(first)
    commands = [world.submit("first"), world.submit("second")]
    for command in commands:
        await host.submit(command)
    await until(lambda: first.open == 1)
    await host.drain(grace_s=0)
    assert (first.open, host.status().sessions) == (0, ())
    with pytest.raises(Draining):
        await host.submit(world.submit())
    assert not {"turn.cancelled", "message.completed", "turn.completed"} & set(await world.types())
    other = world.host(ScriptedLLM([says("whole"), says("two")]))
    assert (await settled(other, world, commands[1])).message == "two"
    assert (await world.state()).transcript[1].content == "whole"


async def test_drain_lets_a_turn_end_within_its_grace(world: Any, until: Callable[..., Any]) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("just in time")]])
    host = world.host(llm)
    waiting = asyncio.create_task(host.chat(world.submit(), wait_s=5))
    await until(lambda: llm.open == 1)
    draining = asyncio.create_task(host.drain(grace_s=5))
    await asyncio.sleep(0)
    gate.set()
    assert (await waiting).message == "just in time"
    await asyncio.wait_for(draining, 5)


async def test_a_session_that_arrives_while_its_host_drains_runs_nothing_there(
    world: Any, until: Callable[..., Any]
) -> None:
    first = ScriptedLLM([[asyncio.Event()]])
    dead = world.host(first)
    await dead.submit(world.submit())
    await until(lambda: first.open == 1)
    await world.die(dead)
    line = world.line()
    line.activations.clear()
    llm = ScriptedLLM(otherwise=says("too late"))
    host = world.host(llm, line=line)
    waking = asyncio.create_task(host.wake("sess_1"))
    await asyncio.sleep(0)
    await host.drain(grace_s=0)
    line.activations.set()
    await asyncio.wait([waking])
    assert isinstance(waking.exception(), Draining)
    assert (host.status().sessions, llm.requests) == ((), [])
    assert await world.journal.unfinished(limit=1) == ("sess_1",)


async def test_drain_does_not_write_the_turns_end_behind_an_append_on_its_way(
    world: Any, until: Callable[..., Any]
) -> None:
    """The session is lost to this host at the drain, whatever was already under way to the journal."""
    line = world.line()
    llm = ScriptedLLM([[TextDelta("half a "), asyncio.Event()]])
    host = world.host(llm, line=line)
    command = world.submit("first")
    await host.submit(command)
    await until(lambda: llm.open == 1)
    line.hold()
    second = asyncio.create_task(host.submit(world.submit("second")))
    await until(lambda: line.waiting == 1)
    await host.drain(grace_s=0)
    line.release()
    await asyncio.wait([second])
    await until(lambda: line.waiting == 0)
    assert "turn.cancelled" not in await world.types()
    other = world.host(ScriptedLLM(otherwise=says("whole")))
    assert (await settled(other, world, command)).status == "completed"
