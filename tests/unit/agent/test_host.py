"""A process full of sessions: who gets in, who is pushed out, and who is let in by whom."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest

from actors.agent import host as host_module
from actors.agent.orders import Pause
from actors.agent.sessions import Receipt, TurnResult
from actors.core.errors import (
    AtCapacity,
    Draining,
    Fenced,
    GreenroomError,
    InvalidInput,
    NotHere,
    SessionNotFound,
    StoreUnavailable,
)
from actors.llm.base import TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes


async def test_the_idlest_session_makes_room(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")), sessions_per_actor=2)
    for session_id in ("sess_1", "sess_2"):
        await host.chat(world.submit(session_id=session_id), wait_s=5)
        world.clock.advance(1)
    await host.follow("sess_1", "user_1", after=0, seen={}, wait_s=0)  # now sess_2 is the idlest
    await host.chat(world.submit(session_id="sess_3"), wait_s=5)
    assert set(host.status().sessions) == {"sess_1", "sess_3"}
    # The one that was pushed out is back when it is needed.
    assert (await host.chat(world.submit(session_id="sess_2", new=None), wait_s=5)).message == "yes"
    assert len(host.status().sessions) == 2


async def test_a_session_is_not_pushed_out_before_whoever_asked_for_it_gets_it(world: Any) -> None:
    """With one place in the host two sessions come at once: none of them may run where nobody sees it."""
    setup = world.host(ScriptedLLM(otherwise=says("yes")))
    for session_id in ("sess_1", "sess_2"):
        await setup.chat(world.submit(session_id=session_id), wait_s=5)
    gate = asyncio.Event()
    host = world.host(ScriptedLLM(otherwise=[gate, *says("yes")]), sessions_per_actor=1)
    first = asyncio.create_task(_outcome(host.submit(world.submit(new=None))))
    async with asyncio.timeout(5):
        while not host.status().sessions:  # noqa: ASYNC110 - the very next step of the loop counts
            await asyncio.sleep(0)
    second = await _outcome(host.submit(world.submit(session_id="sess_2", new=None)))
    outcomes = [await first, second]
    assert all(isinstance(one, Receipt) or one.retryable for one in outcomes)
    assert await world.journal.unfinished(limit=10) == host.status().sessions
    gate.set()


async def test_full_of_busy_sessions_it_says_so(world: Any, until: Callable[..., Any]) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM(otherwise=[gate, *says("yes")])
    host = world.host(llm, sessions_per_actor=2)
    for session_id in ("sess_1", "sess_2"):
        await host.submit(world.submit(session_id=session_id))
    with pytest.raises(AtCapacity) as caught:
        await host.submit(world.submit(session_id="sess_3"))
    assert caught.value.retryable
    gate.set()
    await until(lambda: host.status().running == 0)
    await host.submit(world.submit(session_id="sess_3"))


async def test_sweep_leaves_busy_and_fresh_sessions(world: Any, until: Callable[..., Any]) -> None:
    llm = ScriptedLLM([says("idle"), [asyncio.Event()], says("fresh")])
    host = world.host(llm)
    await host.chat(world.submit(session_id="idle"), wait_s=5)
    await host.submit(world.submit(session_id="busy"))
    await until(lambda: llm.open == 1)
    world.clock.advance(301)
    await host.chat(world.submit(session_id="fresh"), wait_s=5)
    assert await host.sweep() == 1
    assert set(host.status().sessions) == {"busy", "fresh"}


async def test_sweep_drops_what_lives_elsewhere_so_that_its_readers_are_told(world: Any) -> None:
    """A host that stood still, and whose session was taken over, writes nothing and so is never fenced."""
    before, after = world.host(ScriptedLLM(otherwise=says("hi"))), world.host(ScriptedLLM(otherwise=says("hi")))
    await before.chat(world.submit(), wait_s=5)
    last = len(await world.events())
    reader = asyncio.create_task(before.follow("sess_1", "user_1", after=last, seen={}, wait_s=30))
    assert await before.sweep() == 0
    assert before.status().sessions == ("sess_1",)

    await after.chat(world.submit("again"), wait_s=5)
    await before.sweep()

    assert before.status().sessions == ()
    with pytest.raises(Fenced):
        await reader
    assert after.status().sessions == ("sess_1",)


async def test_sweep_waits_for_no_database(world: Any) -> None:
    line = world.line()
    host = world.host(ScriptedLLM(otherwise=says("hi")), line=line)
    await host.chat(world.submit(), wait_s=5)
    line.overtaken = AsyncMock(side_effect=StoreUnavailable)
    assert await host.sweep() == 0
    assert host.status().sessions == ("sess_1",)


async def test_sweep_is_not_held_up_by_a_session_that_is_lost(world: Any, until: Callable[..., Any]) -> None:
    """Two approvals are overdue, and the first of the two sessions cannot be written any more."""
    shell = calls(("run_shell", {"command": "ls"}))
    line = world.line()
    host = world.host(
        ScriptedLLM([shell, shell], otherwise=says("ok")),
        line=line,
        approval_tools=("run_shell",),
        approval_expires_s=10,
    )
    for session_id in ("sess_1", "sess_2"):
        await host.submit(world.submit(session_id=session_id))
        await until(lambda: not host.status().running)
    await world.journal.activate("sess_1")  # somebody else has it
    world.clock.advance(10)
    await host.sweep()
    assert (await world.types("sess_2"))[-1] != "turn.waiting"
    assert host.status().sessions == ("sess_2",)


async def test_an_old_address_is_told_so_and_takes_nothing_over(world: Any) -> None:
    owner = world.host(ScriptedLLM(otherwise=says("yes")))
    await owner.chat(world.submit(), wait_s=5)
    other = world.host(ScriptedLLM(otherwise=says("stolen")))
    calls_without_leave = (
        other.submit(world.submit(new=None), activate=False),
        other.chat(world.submit(new=None), wait_s=1, activate=False),
        other.follow("sess_1", "user_1", after=0, seen={}, wait_s=0, activate=False),
        other.cancel("sess_1", "user_1", "turn_1", activate=False),
        other.submit(world.submit(), activate=False),  # the message would open the session if it were new
    )
    for call in calls_without_leave:
        with pytest.raises(NotHere):
            await call
    assert (await owner.chat(world.submit(), wait_s=5)).message == "yes"
    assert other.status().sessions == ()


async def test_many_who_ask_for_one_session_activate_it_once(world: Any) -> None:
    await world.host(ScriptedLLM([says("yes")])).chat(world.submit(), wait_s=5)
    host = world.host(ScriptedLLM())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.follow("sess_1", "user_1", after=0, seen={}, wait_s=5)) for _ in range(20)]
    assert {len(task.result().events) for task in tasks} == {6}
    assert (await world.journal.activate("sess_1")).epoch == 3  # created, activated once, and now


async def test_a_caller_that_gives_up_does_not_take_the_others_with_it(world: Any) -> None:
    await world.host(ScriptedLLM([says("yes")])).chat(world.submit(), wait_s=5)
    line = world.line()
    line.activations.clear()
    host = world.host(ScriptedLLM(), line=line)
    first, second = (asyncio.create_task(host.follow("sess_1", "user_1", after=0, seen={}, wait_s=5)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    line.activations.set()
    assert len((await asyncio.wait_for(second, 5)).events) == 6


async def test_a_message_gets_nobody_into_the_session_of_another(world: Any) -> None:
    await world.host(ScriptedLLM([says("mine")])).chat(world.submit("my secret"), wait_s=5)
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    for new in (world.submit().new, None):
        with pytest.raises(SessionNotFound):
            await host.chat(world.submit(user_id="user_2", new=new), wait_s=5)
    assert len(await world.events()) == 6
    assert (await host.chat(world.submit(), wait_s=5)).message == "yes"


async def test_nor_while_the_owners_session_is_on_its_way(world: Any) -> None:
    """Two who come while a session is activated share the activation, and not the right to be there."""
    await world.host(ScriptedLLM([says("mine")])).chat(world.submit("my secret"), wait_s=5)
    line = world.line()
    line.activations.clear()
    host = world.host(ScriptedLLM(otherwise=says("the secret is …")), line=line)
    owner = asyncio.create_task(host.follow("sess_1", "user_1", after=0, seen={}, wait_s=5))
    await asyncio.sleep(0)
    stranger = asyncio.create_task(host.chat(world.submit("what was said?", user_id="user_2"), wait_s=5))
    await asyncio.sleep(0)
    line.activations.set()
    await owner
    with pytest.raises(SessionNotFound):
        await stranger
    assert len(await world.events()) == 6


async def test_a_strangers_try_does_not_hide_the_session_from_its_owner(world: Any, until: Callable[..., Any]) -> None:
    await world.host(ScriptedLLM([says("mine")])).chat(world.submit(), wait_s=5)
    line = world.line()
    host = world.host(ScriptedLLM(otherwise=says("yes")), line=line)
    line.hold()
    stranger = asyncio.create_task(host.submit(world.submit(user_id="user_2")))
    await until(lambda: line.waiting == 1)
    owner = asyncio.create_task(host.follow("sess_1", "user_1", after=0, seen={}, wait_s=5))
    await asyncio.sleep(0)
    line.release()
    with pytest.raises(SessionNotFound):
        await stranger
    assert (await owner).events[0].body.user_id == "user_1"


@pytest.mark.parametrize("new", [True, False])
async def test_a_stranger_who_knows_an_id_disturbs_nobody(world: Any, until: Callable[..., Any], new: bool) -> None:
    """Asked for by a stranger at another host, the session is not taken from the one that runs its turn."""
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("mine")]])
    owner = world.host(llm)
    command = world.submit("my secret")
    await owner.submit(command)
    await until(lambda: llm.open == 1)
    other = world.host(ScriptedLLM(otherwise=says("theirs")))
    message = world.submit(user_id="user_2", **({} if new else {"new": None}))
    for call in (
        other.submit(message),
        other.chat(message, wait_s=1),
        other.follow("sess_1", "user_2", after=0, seen={}, wait_s=0),
        other.cancel("sess_1", "user_2", command.turn_id),
        other.control("sess_1", "user_2", Pause()),
        other.inbox("sess_1", "user_2"),
    ):
        with pytest.raises(SessionNotFound):
            await call
    assert other.status().sessions == ()
    gate.set()
    assert (await owner.chat(command, wait_s=5)).message == "mine"
    assert (await world.journal.activate("sess_1")).epoch == 2  # created by its owner, and activated now


@pytest.mark.parametrize("asks", ["follow", "wake"])
async def test_whoever_comes_while_a_stranger_asks_gets_the_session(
    world: Any, until: Callable[..., Any], asks: str
) -> None:
    """They do not share the stranger's refusal, nor activate the session twice."""
    await world.host(ScriptedLLM([says("mine")])).chat(world.submit(), wait_s=5)
    line = world.line()
    line.activations.clear()
    host = world.host(ScriptedLLM(), line=line)
    stranger = asyncio.create_task(host.inbox("sess_1", "user_2"))
    await asyncio.sleep(0)

    def ask() -> Any:
        return host.follow("sess_1", "user_1", after=0, seen={}, wait_s=5) if asks == "follow" else host.wake("sess_1")

    others = [asyncio.create_task(ask()) for _ in range(5)]
    await asyncio.sleep(0)
    line.activations.set()
    with pytest.raises(SessionNotFound):
        await stranger
    for other in others:
        await asyncio.wait_for(other, 5)
    assert (await world.journal.activate("sess_1")).epoch == 3


async def test_the_first_message_sent_twice_opens_one_session(world: Any) -> None:
    host = world.host(ScriptedLLM([says("yes")]))
    command = world.submit()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.chat(command, wait_s=5)) for _ in range(5)]
    assert {task.result().turn_id for task in tasks} == {command.turn_id}
    assert (await world.types()).count("message.accepted") == 1


async def test_the_first_message_sent_to_two_hosts_runs_once(world: Any) -> None:
    llm = ScriptedLLM(otherwise=says("yes"))
    hosts = [world.host(llm), world.host(llm)]
    command = world.submit()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(host.chat(command, wait_s=5))) for host in hosts]
    results = [task.result() for task in tasks]
    if all(isinstance(result, GreenroomError) for result in results):  # each was overtaken by the other
        results = [await hosts[0].chat(command, wait_s=5)]
    types = await world.types()
    assert (types.count("message.accepted"), types.count("turn.completed")) == (1, 1)
    assert command.turn_id in {result.turn_id for result in results if not isinstance(result, GreenroomError)}
    assert all(result.retryable for result in results if isinstance(result, GreenroomError))


async def _outcome(call: Any) -> Any:
    try:
        return await call
    except GreenroomError as error:
        return error


async def test_an_empty_message_is_refused_before_it_is_written(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    with pytest.raises(InvalidInput):
        await host.submit(world.submit(" \n"))
    await host.chat(world.submit(), wait_s=5)
    assert (await world.types()).count("message.accepted") == 1


async def test_forget_stops_the_turn_and_destroys_the_sandbox(world: Any, until: Callable[..., Any]) -> None:
    class Released(FakeSandboxes):
        released: list[str]

        async def release(self, session_id: str) -> None:
            self.released.append(session_id)

    sandboxes = Released(hanging=["sleep"])
    sandboxes.released = []
    host = world.host(ScriptedLLM([calls(("run_shell", {"command": "sleep"}))]), sandboxes=sandboxes)
    waiting = asyncio.create_task(host.chat(world.submit(), wait_s=30))
    await until(lambda: bool(sandboxes.runs))
    await world.book.delete("sess_1", "user_1")
    await host.forget("sess_1")
    assert (len(sandboxes.cancelled), sandboxes.released, host.status().sessions) == (1, ["sess_1"], ())
    with pytest.raises(GreenroomError):
        await asyncio.wait_for(waiting, 2)
    with pytest.raises(SessionNotFound):
        await host.follow("sess_1", "user_1", after=0, seen={}, wait_s=0)


async def test_forget_of_a_session_that_is_elsewhere_releases_its_sandbox_all_the_same(world: Any) -> None:
    sandboxes = FakeSandboxes()
    await sandboxes.write("sess_1", "a.txt", b"a")
    await world.host(ScriptedLLM(), sandboxes=sandboxes).forget("sess_1")
    assert await sandboxes.list("sess_1") == ()


async def test_a_draining_host_takes_nothing_in(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    await host.chat(world.submit(), wait_s=5)
    await host.drain(grace_s=0)
    assert host.status().draining
    for call in (
        host.submit(world.submit()),
        host.submit(world.submit(session_id="sess_2")),
        host.follow("sess_1", "user_1", after=0, seen={}, wait_s=0),
        host.wake("sess_1"),
    ):
        with pytest.raises(Draining):
            await call


@pytest.mark.parametrize("grace_s", [0, 5])
async def test_a_session_that_arrives_while_its_host_drains_leaves_with_its_turn(
    world: Any, until: Callable[..., Any], grace_s: float
) -> None:
    """Nobody holds it here: its turn would run on and be taken over at the same time."""
    line = world.line()
    llm = ScriptedLLM([[asyncio.Event()]])
    host = world.host(llm, line=line)
    line.hold()
    opening = asyncio.create_task(_outcome(host.submit(world.submit())))
    await until(lambda: line.waiting == 1)
    draining = asyncio.create_task(host.drain(grace_s=grace_s))
    await until(lambda: host.status().draining)
    line.release()
    async with asyncio.timeout(5):
        await draining
        assert isinstance(await opening, Draining)
    assert (llm.open, host.status().sessions) == (0, ())
    assert await world.journal.unfinished(limit=10) == ("sess_1",)


async def test_a_host_that_drains_does_not_wait_for_ever_for_what_is_on_its_way(
    world: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "ARRIVAL_S", 0.01)
    line = world.line()
    llm = ScriptedLLM([[asyncio.Event()]])
    host = world.host(llm, line=line)
    line.hold()
    opening = asyncio.create_task(_outcome(host.submit(world.submit())))
    await until(lambda: line.waiting == 1)
    async with asyncio.timeout(5):
        await host.drain(grace_s=0)
        line.release()
        assert isinstance(await opening, Draining)
    assert llm.open == 0


async def test_a_turn_that_the_database_cut_off_is_given_up_for_others_to_take(
    world: Any, until: Callable[..., Any]
) -> None:
    """Nobody need be waiting: the session may not seem resident, or nobody would ever go on with the turn."""
    gate = asyncio.Event()
    line = world.line()
    llm = ScriptedLLM([[TextDelta("I"), gate, says("I")[-1]], says("done")])
    host = world.host(llm, line=line, sessions_per_actor=1)
    command = world.submit()
    await host.submit(command)
    await until(lambda: llm.open == 1)
    line.refusal = StoreUnavailable("the database restarts")
    gate.set()
    await until(lambda: (llm.open == 0 and host._sessions.get("sess_1") is None) or not host.status().running)
    line.refusal = None
    await host.sweep()
    assert host.status().sessions == ()
    assert await world.journal.unfinished(limit=10) == ("sess_1",)
    await host.wake("sess_1")
    result = await host.chat(command, wait_s=5)
    assert isinstance(result, TurnResult)
    assert result.message == "done"


async def test_a_lost_session_takes_no_room(world: Any, until: Callable[..., Any]) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *calls(("run_shell", {"command": "ls"}))]], otherwise=says("yes"))
    host = world.host(llm, sessions_per_actor=1)
    await host.submit(world.submit())
    await until(lambda: llm.open == 1)
    await world.journal.activate("sess_1")  # somebody else has it
    gate.set()
    await until(lambda: llm.open == 0)
    await until(lambda: all(s._running is None for s in host._sessions.values()))
    assert (await host.chat(world.submit(session_id="sess_2"), wait_s=5)).message == "yes"
