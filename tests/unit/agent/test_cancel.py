"""Cancel: it stops the model and the tools, says what was running and spent, and loses nothing else."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.sessions import TurnResult
from actors.core.errors import SessionNotFound
from actors.core.events import MessageCompleted, TurnCancelled
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

SLEEPING = [("run_shell", {"command": "sleep"}), ("run_shell", {"command": "ls"})]


async def test_while_the_model_writes(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[TextDelta("Well, "), asyncio.Event()], says("Again?")])
    host = world.host(llm)
    command = world.submit()
    waiting = asyncio.create_task(host.chat(command, wait_s=5))
    await until(lambda: llm.open == 1)
    result = await host.cancel("sess_1", "user_1", command.turn_id)
    assert (result.status, result.stop_reason, result.message) == ("cancelled", "cancelled", "Well, ")
    assert await waiting == result
    assert (llm.open, llm.broken_off) == (0, 1)
    assert [(body.content, body.finish_reason) for body in await world.bodies(MessageCompleted)] == [
        ("Well, ", "interrupted")
    ]
    assert await world.bodies(TurnCancelled) == [TurnCancelled(("model",), 1, result.spent)]
    assert not result.spent.cost_known
    # The session goes on, and what was said stays said.
    assert (await host.chat(world.submit("Go on"), wait_s=5)).message == "Again?"
    assert [message.content for message in llm.requests[1].messages[1:]] == ["hello", "Well, ", "Go on"]


async def test_while_a_tool_runs(world: Any, check_openai: Callable[..., None]) -> None:
    sandboxes = FakeSandboxes(hanging=["sleep"])
    host = world.host(ScriptedLLM([calls(*SLEEPING)]), sandboxes=sandboxes)
    command = world.submit()
    await host.submit(command)
    async with asyncio.timeout(5):
        await sandboxes.started.wait()
    result = await host.cancel("sess_1", "user_1", command.turn_id)
    assert [run.source for run in sandboxes.cancelled] == ["sleep"]
    assert [run.source for run in sandboxes.runs] == ["sleep"], "the call behind it was run after the cancel"
    assert [(tool.error, tool.content) for tool in result.tools] == [
        ("stopped", "Stopped before it finished: the turn was cancelled."),
        ("stopped", "Not run: the turn was cancelled."),
    ]
    assert (await world.bodies(TurnCancelled))[0].stopped == ("run_shell",)
    check_openai((await world.state()).transcript)


class Printing(FakeSandboxes):
    """A command that prints and does not end."""

    def __init__(self, printed: str) -> None:
        super().__init__(hanging=["sleep"])
        self._printed = printed

    async def shell(self, session_id: str, command: str, *, timeout_s: float, on_output: Any = None) -> Any:
        on_output(self._printed)
        return await super().shell(session_id, command, timeout_s=timeout_s, on_output=on_output)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_what_a_stopped_tool_had_printed_stays(
    world: Any, until: Callable[..., Any], check_openai: Callable[..., None], how: str
) -> None:
    sandboxes = Printing("one\ntwo\ud83d\n")
    llm = ScriptedLLM([calls(*SLEEPING), says("ok")])
    host = world.host(llm, sandboxes=sandboxes, turn_max_s=0.3 if how == "timeout" else 60)
    command = world.submit()
    await host.submit(command)
    await until(lambda: bool(sandboxes.runs))
    world.clock.advance(1.5)
    if how == "cancel":
        result, reason = await host.cancel("sess_1", "user_1", command.turn_id), "the turn was cancelled"
    else:
        result, reason = await host.chat(command, wait_s=5), "the turn ran out of time"
    stopped, not_run = result.tools
    assert stopped.content == f"Stopped before it finished: {reason}.\nIt had printed:\none\ntwo\ufffd\n"
    assert (stopped.duration_ms, not_run.duration_ms, not_run.content) == (1500, 0, f"Not run: {reason}.")
    check_openai((await world.state()).transcript)
    # Readers are not shown the rest of a tool that is over.
    last = host._sessions["sess_1"].log.state.last_seq
    batch = await host.follow("sess_1", "user_1", after=last, seen={}, wait_s=0.01)
    assert batch.previews == ()


async def test_of_a_stopped_tool_the_model_reads_no_more_than_of_any(world: Any, until: Callable[..., Any]) -> None:
    sandboxes = Printing("x" * 50_000)
    host = world.host(ScriptedLLM([calls(*SLEEPING)]), sandboxes=sandboxes, tool_output_chars=1000)
    command = world.submit()
    await host.submit(command)
    await until(lambda: bool(sandboxes.runs))
    result = await host.cancel("sess_1", "user_1", command.turn_id)
    assert len(result.tools[0].content) <= 1000
    assert result.tools[0].content.startswith("Stopped before it finished")


async def test_whoever_asked_for_the_end_may_go_away(world: Any, until: Callable[..., Any]) -> None:
    """Those who wait for a turn in the queue are told that it was cancelled, by whomever."""
    llm = ScriptedLLM([[asyncio.Event()]])
    line = world.line()
    host = world.host(llm, line=line)
    commands = [world.submit("first"), world.submit("second")]
    for command in commands:
        await host.submit(command)
    waiting = asyncio.create_task(host.chat(commands[1], wait_s=60))
    await until(lambda: bool(host._sessions["sess_1"]._results._waiters))
    line.hold()
    cancelling = asyncio.create_task(host.cancel("sess_1", "user_1", commands[1].turn_id))
    await until(lambda: line.waiting == 1)
    cancelling.cancel()
    await asyncio.wait([cancelling])
    line.release()
    assert (await asyncio.wait_for(waiting, 5)).status == "cancelled"


async def test_cancelled_twice_by_callers_who_go_away_at_once(world: Any, until: Callable[..., Any]) -> None:
    """A caller that gives up in the first moment does not take the cancel with it."""
    llm = ScriptedLLM([[asyncio.Event()]])
    host = world.host(llm)
    command = world.submit()
    await host.submit(command)
    await until(lambda: llm.open == 1)
    hasty = asyncio.create_task(host.cancel("sess_1", "user_1", command.turn_id))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.wait([hasty])
    result = await asyncio.wait_for(host.cancel("sess_1", "user_1", command.turn_id), 5)
    assert (result.status, llm.open) == ("cancelled", 0)


async def test_while_it_waits_in_the_queue(world: Any, until: Callable[..., Any]) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("one")], says("three")])
    host = world.host(llm)
    commands = [world.submit(text) for text in ("first", "second", "third")]
    for command in commands:
        await host.submit(command)
    waiting = asyncio.create_task(host.chat(commands[1], wait_s=5))
    await until(lambda: bool(host._sessions["sess_1"]._results._waiters))
    result = await host.cancel("sess_1", "user_1", commands[1].turn_id)
    assert (result.status, result.steps, await waiting) == ("cancelled", 0, result)
    gate.set()
    assert (await host.chat(commands[2], wait_s=5)).message == "three"
    assert [m.content for m in llm.requests[1].messages[1:]] == ["first", "one", "third"]


async def test_whoever_asks_while_the_cancel_is_written_gets_the_result(world: Any, until: Callable[..., Any]) -> None:
    line = world.line()
    host = world.host(ScriptedLLM([[asyncio.Event()]]), line=line)
    commands = [world.submit("first"), world.submit("second")]
    for command in commands:
        await host.submit(command)
    line.hold()
    cancelled = asyncio.create_task(host.cancel("sess_1", "user_1", commands[1].turn_id))
    await until(lambda: line.waiting == 1)
    waiting = asyncio.create_task(host.chat(commands[1], wait_s=5))
    await asyncio.sleep(0)
    line.release()
    assert await waiting == await cancelled


async def test_the_first_of_a_queue_lets_the_next_one_run(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()], says("two")])
    host = world.host(llm)
    commands = [world.submit(text) for text in ("first", "second")]
    for command in commands:
        await host.submit(command)
    await until(lambda: llm.open == 1)
    await host.cancel("sess_1", "user_1", commands[0].turn_id)
    assert (await host.chat(commands[1], wait_s=5)).message == "two"


async def test_in_the_moment_in_which_the_turn_ends(world: Any, until: Callable[..., Any]) -> None:
    """The end is staged and on its way to the journal: it is the end, and the session is not lost for it."""
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("done")], says("next")])
    host = world.host(llm)
    commands = [world.submit("first"), world.submit("second")]
    for command in commands:
        await host.submit(command)
    await until(lambda: llm.open == 1)
    gate.set()
    result = await host.cancel("sess_1", "user_1", commands[0].turn_id)
    assert result is None or result.status in {"completed", "cancelled"}
    turn = await world.book.turn(commands[0].turn_id, "user_1")
    assert turn.status in {"completed", "cancelled"}
    assert (await host.chat(commands[1], wait_s=5)).message == "next"
    assert (await world.types()).count("turn.recovering") == 0


async def test_right_after_the_message_was_accepted(world: Any) -> None:
    host = world.host(ScriptedLLM([[asyncio.Event()]]))
    command = world.submit()
    await host.submit(command)
    result = await host.cancel("sess_1", "user_1", command.turn_id)
    assert result.status == "cancelled"
    assert [body.type for body in await world.bodies(TurnCancelled)] == ["turn.cancelled"]


async def test_before_the_model_was_asked_leaves_no_open_row_in_the_ledger(
    world: Any, until: Callable[..., Any]
) -> None:
    """A row that says `dispatched` says that money may have been spent; nothing was sent here."""
    line = world.line()
    llm = ScriptedLLM(otherwise=says("yes"))
    host = world.host(llm, line=line)
    await host.chat(world.submit(), wait_s=5)
    line.hold()
    command = world.submit()
    submitted = asyncio.create_task(host.submit(command))
    await until(lambda: line.waiting == 1)
    cancelled = asyncio.create_task(host.cancel("sess_1", "user_1", command.turn_id))
    await until(lambda: world.hosts[0]._sessions["sess_1"].log.state.running is None)
    line.release()
    await submitted
    assert (await cancelled).status == "cancelled"
    assert len(llm.requests) == 1
    assert [attempt.state for attempt in await world.attempts()].count("dispatched") == 0


async def test_many_at_once_cancel_once(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[TextDelta("I"), asyncio.Event()]])
    host = world.host(llm)
    command = world.submit()
    await host.submit(command)
    await until(lambda: llm.open == 1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.cancel("sess_1", "user_1", command.turn_id)) for _ in range(20)]
    assert {task.result().status for task in tasks} == {"cancelled"}
    assert len(await world.bodies(TurnCancelled)) == 1


async def test_of_a_turn_that_has_ended_changes_nothing(world: Any) -> None:
    host = world.host(ScriptedLLM([says("done")]))
    command = world.submit()
    ended = await host.chat(command, wait_s=5)
    assert isinstance(ended, TurnResult)
    assert await host.cancel("sess_1", "user_1", command.turn_id) == ended
    assert await world.host(ScriptedLLM()).cancel("sess_1", "user_1", command.turn_id) is None
    assert len(await world.events()) == 6


async def test_is_not_for_others(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([[asyncio.Event()]])
    host = world.host(llm)
    command = world.submit()
    await host.submit(command)
    await until(lambda: llm.open == 1)
    with pytest.raises(SessionNotFound):
        await host.cancel("sess_1", "user_2", command.turn_id)
    assert llm.open == 1


async def test_of_a_turn_that_another_host_left(world: Any, until: Callable[..., Any]) -> None:
    first = ScriptedLLM([[TextDelta("I"), asyncio.Event()]])
    dead = world.host(first)
    command = world.submit()
    await dead.submit(command)
    await until(lambda: first.open == 1)
    await world.die(dead)
    second = ScriptedLLM([[asyncio.Event()]])
    result = await world.host(second).cancel("sess_1", "user_1", command.turn_id)
    assert (result.status, second.open) == ("cancelled", 0)
    types = await world.types()
    assert types[:4] == ["session.created", "message.accepted", "turn.started", "turn.recovering"]
    assert types[-1] == "turn.cancelled"
