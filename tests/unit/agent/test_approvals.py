"""Approvals: who is asked for what, what becomes of the answer, and of the lack of one, wherever the session is."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.orders import Pause, Resolve, Resume
from actors.agent.sessions import NewSession, Receipt, TurnResult
from actors.core.errors import ApprovalNotFound, ApprovalNotPending, GreenroomError, SessionNotFound
from actors.core.events import (
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    ToolCompleted,
    ToolStarted,
    TurnWaiting,
)
from actors.core.messages import ToolMessage
from actors.sandbox.base import Limits
from actors.testing import FakeClock, ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes
from actors.tools.base import Tool, ToolContext, ToolResult, tool
from actors.tools.toolbox import default_tools

SHELL = calls(("run_shell", {"command": "rm"}), ids=["id_1"])
DAY_S = 86_400.0


@pytest.fixture(scope="session")
def tools() -> tuple[Tool, ...]:
    async def pay(context: ToolContext, micros: int) -> ToolResult:
        """Send money."""
        return ToolResult(f"sent {micros}")

    return (*default_tools(FakeClock(), Limits(), max_chars=16_000), tool(pay, needs_approval=True))


@pytest.fixture
def sandboxes() -> FakeSandboxes:
    return FakeSandboxes()


@pytest.fixture
def make_host(world: Any, sandboxes: FakeSandboxes) -> Callable[..., Any]:
    """Hosts on which `run_shell` needs a person."""

    def make(llm: ScriptedLLM, **changes: Any) -> Any:
        return world.host(llm, sandboxes=sandboxes, **{"approval_tools": ("run_shell",), **changes})

    return make


async def asked(world: Any, host: Any, until: Callable[..., Any], command: Any = None) -> tuple[Any, ApprovalRequested]:
    """A message whose turn waits for a person, and what that person is asked."""
    command = command or world.submit()
    await host.submit(command)
    await until(lambda: not host.status().running)
    return command, (await world.bodies(ApprovalRequested))[-1]


async def resolve(host: Any, approval: Any, decision: Any = "approve", reason: str | None = None) -> None:
    await host.control("sess_1", "user_1", Resolve(approval.approval_id, decision, reason, "user_1"))


def told(llm: ScriptedLLM) -> list[str]:
    """What tools answered, as the last request told the model."""
    return [message.content for message in llm.requests[-1].messages if isinstance(message, ToolMessage)]


# Who is asked for what -----------------------------------------------------------------------------------


async def test_asked_for_by_a_setting_the_turn_leaves_the_processor(
    world: Any, make_host: Callable[..., Any], sandboxes: FakeSandboxes, until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL]))
    command, approval = await asked(world, host, until)
    assert (await world.types())[-3:] == ["tool.requested", "approval.requested", "turn.waiting"]
    assert (approval.tool_call_id, approval.name, approval.arguments) == ("id_1", "run_shell", '{"command": "rm"}')
    assert ((approval.expires_at - world.clock.now()).total_seconds(), approval.on_expiry) == (DAY_S, "deny")
    assert await world.bodies(TurnWaiting) == [TurnWaiting("approval")]
    assert sandboxes.runs == []
    assert (await world.book.turn(command.turn_id, "user_1")).status == "waiting"
    assert (await world.book.get("sess_1", "user_1")).status == "waiting"
    (row,) = await world.approvals()
    assert (row.id, row.status, row.turn_id, row.request, row.resolution) == (
        *(approval.approval_id, "pending", command.turn_id, approval, None),
    )


async def test_asked_for_by_the_tool_itself(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([calls(("pay", {"micros": 7})), says("ok")])
    host = world.host(llm)
    command, approval = await asked(world, host, until)
    assert approval.name == "pay"
    await resolve(host, approval)
    assert (await host.chat(command, wait_s=5)).message == "ok"
    assert told(llm) == ["sent 7"]


async def test_asked_for_by_the_session(world: Any, until: Callable[..., Any]) -> None:
    host = world.host(ScriptedLLM([SHELL, says("ok")]))
    careful = world.submit(new=NewSession("scripted", approvals=("run_shell", "remember")))
    command, approval = await asked(world, host, until, careful)
    await resolve(host, approval)
    assert (await host.chat(command, wait_s=5)).message == "ok"
    free = world.host(ScriptedLLM([SHELL, says("ok")]))
    assert (await free.chat(world.submit(session_id="sess_2"), wait_s=5)).message == "ok"
    assert [row.session_id for row in await world.approvals("sess_2")] == []


async def test_of_several_calls_each_that_needs_a_person_gets_one_and_all_run_in_their_order(
    world: Any, make_host: Callable[..., Any], sandboxes: FakeSandboxes, until: Callable[..., Any]
) -> None:
    wanted = [
        ("run_python", {"code": "1"}),
        ("run_shell", {"command": "2"}),
        ("run_python", {"code": "3"}),
        ("run_shell", {"command": "4"}),
    ]
    llm = ScriptedLLM([calls(*wanted, ids=["id_1", "id_2", "id_3", "id_4"]), says("ok")])
    host = make_host(llm)
    command, _ = await asked(world, host, until)
    second, fourth = await world.bodies(ApprovalRequested)
    assert [second.tool_call_id, fourth.tool_call_id] == ["id_2", "id_4"]
    assert [run.source for run in sandboxes.runs] == ["1"]
    # The later one may be decided first; it is not run before the one it stands behind.
    await resolve(host, fourth, "deny")
    assert (host.status().running, [run.source for run in sandboxes.runs]) == (0, ["1"])
    assert (await world.book.get("sess_1", "user_1")).status == "waiting"
    await resolve(host, second)
    assert (await host.chat(command, wait_s=5)).message == "ok"
    assert [run.source for run in sandboxes.runs] == ["1", "2", "3"]
    assert [body.error for body in await world.bodies(ToolCompleted)] == [None, None, None, "denied"]


async def test_what_was_approved_runs_although_a_later_one_is_not_decided(
    world: Any, make_host: Callable[..., Any], sandboxes: FakeSandboxes, until: Callable[..., Any]
) -> None:
    wanted = [("run_shell", {"command": "1"}), ("run_shell", {"command": "2"})]
    host = make_host(ScriptedLLM([calls(*wanted), says("ok")]))
    command, _ = await asked(world, host, until)
    first, second = await world.bodies(ApprovalRequested)
    await resolve(host, first)
    await until(lambda: not host.status().running)
    assert [run.source for run in sandboxes.runs] == ["1"]
    assert (await world.types()).count("turn.waiting") == 2
    await resolve(host, second)
    assert (await host.chat(command, wait_s=5)).message == "ok"


async def test_decided_while_the_call_before_it_runs_the_turn_does_not_wait_at_all(
    world: Any, until: Callable[..., Any]
) -> None:
    sandboxes = FakeSandboxes()
    gate = asyncio.Event()

    running = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> Any:
        running.set()
        await gate.wait()
        return await FakeSandboxes.python(sandboxes, "sess_1", "1", timeout_s=1)

    sandboxes.python = slow
    wanted = [("run_python", {"code": "1"}), ("run_shell", {"command": "2"})]
    host = world.host(ScriptedLLM([calls(*wanted), says("ok")]), sandboxes=sandboxes, approval_tools=("run_shell",))
    command = world.submit()
    await host.submit(command)
    await until(running.is_set)
    await resolve(host, (await world.bodies(ApprovalRequested))[0])
    gate.set()
    assert (await host.chat(command, wait_s=5)).message == "ok"
    assert "turn.waiting" not in await world.types()


# Decisions -----------------------------------------------------------------------------------------------


async def test_approved_it_runs(
    world: Any, make_host: Callable[..., Any], sandboxes: FakeSandboxes, until: Callable[..., Any]
) -> None:
    llm = ScriptedLLM([SHELL, says("Gone.")])
    host = make_host(llm)
    command, approval = await asked(world, host, until)
    before = len(await world.types())
    await resolve(host, approval, "approve", "go ahead")
    assert (await host.chat(command, wait_s=5)).message == "Gone."
    assert [run.source for run in sandboxes.runs] == ["rm"]
    assert (await world.types())[before:][:4] == ["approval.resolved", "turn.resumed", "tool.started", "tool.completed"]
    resolved = ApprovalResolved(approval.approval_id, "id_1", "approve", "go ahead", "user_1")
    (row,) = await world.approvals()
    assert (row.status, row.resolution, row.resolved_at) == ("approved", resolved, world.clock.now())


@pytest.mark.parametrize(("reason", "words"), [(None, "it."), ("not on Fridays", "it: not on Fridays.")])
async def test_denied_it_does_not_and_the_model_is_told(
    world: Any,
    make_host: Callable[..., Any],
    sandboxes: FakeSandboxes,
    until: Callable[..., Any],
    check_openai: Callable[..., None],
    reason: str | None,
    words: str,
) -> None:
    llm = ScriptedLLM([SHELL, says("As you wish.")])
    host = make_host(llm)
    command, approval = await asked(world, host, until)
    await resolve(host, approval, "deny", reason)
    result = await host.chat(command, wait_s=5)
    assert (result.status, result.message, [tool.error for tool in result.tools]) == (
        *("completed", "As you wish.", ["denied"]),
    )
    assert told(llm) == [f"Not run: a person did not allow {words}"]
    assert (sandboxes.runs, await world.bodies(ToolStarted)) == ([], [])
    assert [row.status for row in await world.approvals()] == ["denied"]
    check_openai(llm.requests[-1].messages)


@pytest.mark.parametrize("ended", [False, True])
async def test_decided_again_the_same_is_nothing_and_another_is_too_late(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any], ended: bool
) -> None:
    wanted = [("run_shell", {"command": "1"}), ("run_shell", {"command": "2"})]
    host = make_host(ScriptedLLM([calls(*wanted), says("ok")]))
    command, _ = await asked(world, host, until)
    first, second = await world.bodies(ApprovalRequested)
    await resolve(host, first)
    await until(lambda: not host.status().running)
    if ended:
        await resolve(host, second)
        await host.chat(command, wait_s=5)
        await world.die(host)
        host = make_host(ScriptedLLM())
    before = await world.types()
    await resolve(host, first)
    with pytest.raises(ApprovalNotPending):
        await resolve(host, first, "deny")
    assert await world.types() == before


async def test_two_who_decide_at_once_have_one_outcome(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL, says("ok")]))
    command, approval = await asked(world, host, until)
    decisions = ["approve", "deny", "approve", "deny"]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(resolve(host, approval, decision))) for decision in decisions]
    outcomes = [type(task.result()) for task in tasks]
    assert outcomes == [type(None), ApprovalNotPending, type(None), ApprovalNotPending]
    await host.chat(command, wait_s=5)
    assert len(await world.bodies(ApprovalResolved)) == 1


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except GreenroomError as error:
        return error


async def test_what_nobody_asked_is_not_found(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL]))
    _, approval = await asked(world, host, until)
    with pytest.raises(ApprovalNotFound):
        await host.control("sess_1", "user_1", Resolve("appr_nobody", "approve", None, "user_1"))
    with pytest.raises(SessionNotFound):
        await host.control("sess_1", "user_2", Resolve(approval.approval_id, "approve", None, "user_2"))
    assert [row.status for row in await world.approvals()] == ["pending"]


# Nobody decides ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("policy", ["deny", "approve"])
async def test_expired_the_policy_decides_wherever_the_session_is(
    world: Any,
    make_host: Callable[..., Any],
    sandboxes: FakeSandboxes,
    until: Callable[..., Any],
    resident: bool,
    policy: Any,
) -> None:
    llm = ScriptedLLM([SHELL, says("ok")])
    host = make_host(llm, approval_on_expiry=policy, approval_expires_s=100)
    command, approval = await asked(world, host, until)
    world.clock.advance(99)
    await host.sweep()
    assert await world.journal.due(world.clock.now(), limit=10) == ()
    world.clock.advance(1)
    assert await world.journal.due(world.clock.now(), limit=10) == ("sess_1",)
    if resident:
        await host.sweep()
    else:
        await world.die(host)
        host = make_host(llm)
        await host.wake("sess_1")
    assert (await host.chat(command, wait_s=5)).message == "ok"
    assert await world.bodies(ApprovalExpired) == [ApprovalExpired(approval.approval_id, "id_1", policy)]
    assert [run.source for run in sandboxes.runs] == (["rm"] if policy == "approve" else [])
    if policy == "deny":
        assert told(llm) == ["Not run: a person did not allow it: nobody decided in time."]
    assert [row.status for row in await world.approvals()] == ["expired"]
    assert await world.journal.due(world.clock.now(), limit=10) == ()


async def test_a_decision_that_comes_after_the_time_is_none(
    world: Any, make_host: Callable[..., Any], sandboxes: FakeSandboxes, until: Callable[..., Any]
) -> None:
    """Whoever approves what has expired must not get it run because nobody had looked at the clock."""
    host = make_host(ScriptedLLM([SHELL, says("ok")]), approval_expires_s=100)
    command, approval = await asked(world, host, until)
    world.clock.advance(100)
    with pytest.raises(ApprovalNotPending):
        await resolve(host, approval)
    assert (await host.chat(command, wait_s=5)).message == "ok"
    assert (sandboxes.runs, [row.status for row in await world.approvals()]) == ([], ["expired"])


async def test_expired_in_a_paused_session_it_is_decided_and_goes_on_when_resumed(
    world: Any, make_host: Callable[..., Any], sandboxes: FakeSandboxes, until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL, says("ok")]), approval_expires_s=100, approval_on_expiry="approve")
    command, _ = await asked(world, host, until)
    await host.control("sess_1", "user_1", Pause())
    world.clock.advance(100)
    await host.wake("sess_1")
    assert ([row.status for row in await world.approvals()], sandboxes.runs) == (["expired"], [])
    assert (await world.book.get("sess_1", "user_1")).status == "paused"
    await host.control("sess_1", "user_1", Resume())
    assert (await host.chat(command, wait_s=5)).message == "ok"


# Waiting -------------------------------------------------------------------------------------------------


async def test_waiting_it_costs_nothing(world: Any, make_host: Callable[..., Any], until: Callable[..., Any]) -> None:
    host = make_host(ScriptedLLM([SHELL]))
    await asked(world, host, until)
    assert await world.journal.unfinished(limit=10) == ()
    world.clock.advance(301)
    assert (await host.sweep(), host.status().sessions) == (1, ())


@pytest.mark.parametrize("moved", ["passivated", "another host", "drained"])
async def test_it_goes_on_elsewhere_as_if_nothing_had_been(
    world: Any,
    make_host: Callable[..., Any],
    sandboxes: FakeSandboxes,
    until: Callable[..., Any],
    check_anthropic: Callable[..., None],
    moved: str,
) -> None:
    """No recovery, and no model call that was made before is made again."""
    first, second = ScriptedLLM([SHELL]), ScriptedLLM([says("Gone.")])
    host = make_host(first)
    command, approval = await asked(world, host, until)
    if moved == "passivated":
        world.clock.advance(301)
        await host.sweep()
        host._loop._model._llm = second
    elif moved == "drained":
        await host.drain(grace_s=0)
        host = make_host(second)
    else:
        await world.die(host)
        host = make_host(second)
    await resolve(host, approval)
    assert (await host.chat(command, wait_s=5)).message == "Gone."
    assert [run.source for run in sandboxes.runs] == ["rm"]
    assert "turn.recovering" not in await world.types()
    assert [attempt.state for attempt in await world.attempts()] == ["settled", "settled"]
    check_anthropic((await world.state()).transcript)


async def test_a_host_that_dies_while_a_call_runs_beside_an_open_question_recovers_the_call_alone(
    world: Any, until: Callable[..., Any]
) -> None:
    wanted = [("run_python", {"code": "slow"}), ("run_shell", {"command": "rm"})]
    sandboxes = FakeSandboxes(hanging=["slow"])
    dead = world.host(ScriptedLLM([calls(*wanted)]), sandboxes=sandboxes, approval_tools=("run_shell",))
    command = world.submit()
    await dead.submit(command)
    await until(lambda: len(sandboxes.runs) == 1)
    await world.die(dead)
    host = world.host(ScriptedLLM([says("ok")]), sandboxes=sandboxes, approval_tools=("run_shell",))
    await host.wake("sess_1")
    await until(lambda: not host.status().running)
    assert (await world.types())[-3:] == ["turn.recovering", "tool.outcome_unknown", "turn.waiting"]
    await resolve(host, (await world.bodies(ApprovalRequested))[0])
    result = await host.chat(command, wait_s=5)
    assert [tool.error for tool in result.tools] == ["outcome_unknown", None]


async def test_messages_queue_behind_it(world: Any, make_host: Callable[..., Any], until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([SHELL, says("one"), says("two")])
    host = make_host(llm)
    _, approval = await asked(world, host, until)
    queued = world.submit("second")
    assert (await host.submit(queued)).position == 1
    assert (host.status().running, len(llm.requests)) == (0, 1)
    await resolve(host, approval)
    assert (await host.chat(queued, wait_s=5)).message == "two"


async def test_whoever_waits_for_the_turn_gets_the_receipt(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL, says("one"), says("two")]))
    waiting = asyncio.create_task(host.chat(world.submit(), wait_s=60))
    assert isinstance(await asyncio.wait_for(waiting, 5), Receipt)
    queued = asyncio.create_task(host.chat(world.submit(), wait_s=60))
    assert isinstance(await asyncio.wait_for(queued, 5), Receipt)


async def test_a_draining_host_keeps_nobody_waiting(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL]))
    await asked(world, host, until)
    last = host._sessions["sess_1"].log.state.last_seq
    reading = asyncio.create_task(host.follow("sess_1", "user_1", after=last, seen={}, wait_s=60))
    await asyncio.sleep(0)
    await asyncio.wait_for(host.drain(grace_s=60), 5)
    with pytest.raises(GreenroomError) as caught:
        await asyncio.wait_for(reading, 5)
    assert caught.value.retryable
    assert host.status().sessions == ()


# Its turn ends first -------------------------------------------------------------------------------------


async def test_cancelled_the_question_is_withdrawn(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any], check_openai: Callable[..., None]
) -> None:
    host = make_host(ScriptedLLM([SHELL, says("next")]))
    command, approval = await asked(world, host, until)
    result = await host.cancel("sess_1", "user_1", command.turn_id)
    assert (result.status, result.stopped, [tool.content for tool in result.tools]) == (
        *("cancelled", (), ["Not run: the turn was cancelled."]),
    )
    assert await world.bodies(ApprovalExpired) == [
        ApprovalExpired(approval.approval_id, "id_1", "deny", cancelled=True)
    ]
    assert [row.status for row in await world.approvals()] == ["cancelled"]
    for decision in ("approve", "deny"):
        with pytest.raises(ApprovalNotPending):
            await resolve(host, approval, decision)
    assert (await host.chat(world.submit(), wait_s=5)).message == "next"
    check_openai((await world.state()).transcript)


async def test_cancelled_on_a_host_that_has_just_got_the_session(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any]
) -> None:
    host = make_host(ScriptedLLM([SHELL]))
    command, _ = await asked(world, host, until)
    await world.die(host)
    other = make_host(ScriptedLLM())
    assert (await other.cancel("sess_1", "user_1", command.turn_id)).status == "cancelled"
    assert "turn.recovering" not in await world.types()
    assert [row.status for row in await world.approvals()] == ["cancelled"]


@pytest.mark.parametrize("turns_of_the_loop", range(12))
async def test_cancelled_in_the_moment_in_which_it_parks(
    world: Any, make_host: Callable[..., Any], until: Callable[..., Any], turns_of_the_loop: int
) -> None:
    """Whatever was under way: there is one end, it is told when it is durable, and nobody is asked any more."""
    line = world.line()
    answered = asyncio.Event()
    append = line.append

    async def append_and_wait(what: Any) -> None:
        await append(what)
        if "turn.waiting" in [event.body.type for event in what.events]:
            parked.set()
            await answered.wait()

    parked, line.append = asyncio.Event(), append_and_wait
    host = make_host(ScriptedLLM([SHELL, says("next")]), line=line)
    command = world.submit()
    waiting = asyncio.create_task(host.chat(command, wait_s=60))
    await until(parked.is_set)
    line.hold()
    answered.set()
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0)
    cancelling = asyncio.create_task(host.cancel("sess_1", "user_1", command.turn_id))
    for _ in range(20):
        await asyncio.sleep(0)
    told = [task for task in (waiting, cancelling) if task.done() and isinstance(task.result(), TurnResult)]
    assert not told, "told before it was durable"
    line.release()
    result = await asyncio.wait_for(cancelling, 5)
    assert result.status == "cancelled"
    assert (await world.types())[-1] == "turn.cancelled"
    assert [row.status for row in await world.approvals()] == ["cancelled"]
    assert (await asyncio.wait_for(waiting, 5)) in (result, await host.submit(command))
    assert (await host.chat(world.submit(), wait_s=5)).message == "next"


@pytest.mark.parametrize("turns_of_the_loop", range(20))
async def test_cancelled_in_the_moment_in_which_it_goes_on(
    world: Any,
    make_host: Callable[..., Any],
    sandboxes: FakeSandboxes,
    until: Callable[..., Any],
    check_openai: Callable[..., None],
    turns_of_the_loop: int,
) -> None:
    host = make_host(ScriptedLLM([SHELL, [asyncio.Event()]]))
    command, approval = await asked(world, host, until)
    resolving = asyncio.create_task(resolve(host, approval))
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0)
    result = await asyncio.wait_for(host.cancel("sess_1", "user_1", command.turn_id), 5)
    assert result.status == "cancelled"
    decided = await _outcome(resolving)
    (row,) = await world.approvals()
    assert (decided is None, row.status) in ((True, "approved"), (False, "cancelled"))
    assert len(sandboxes.runs) <= len(await world.bodies(ToolStarted)) <= 1
    assert host.status().running == 0
    check_openai((await world.state()).transcript)


async def test_in_a_turn_that_fails_the_question_is_withdrawn(world: Any, until: Callable[..., Any]) -> None:
    wanted = [("run_python", {"code": "slow"}), ("run_shell", {"command": "rm"})]
    sandboxes = FakeSandboxes(hanging=["slow"])
    host = world.host(ScriptedLLM([calls(*wanted)]), sandboxes=sandboxes, approval_tools=("run_shell",), turn_max_s=0.2)
    result = await host.chat(world.submit(), wait_s=10)
    assert (result.stop_reason, [tool.error for tool in result.tools]) == ("timeout", ["stopped", "stopped"])
    assert [row.status for row in await world.approvals()] == ["cancelled"]
