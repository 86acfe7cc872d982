"""The inbox: what waits can be seen, changed and taken back, until its turn begins and not after."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.orders import Edit, Pause, Withdraw
from actors.agent.sessions import Waiting
from actors.core import telemetry
from actors.core.errors import (
    GreenroomError,
    InboxFull,
    InvalidInput,
    MessageNotFound,
    MessageNotWaiting,
    SessionBusy,
    SessionNotFound,
    StoreUnavailable,
)
from actors.core.events import MessageEdited, TurnCancelled
from actors.testing import ScriptedLLM, says


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def llm(gate: asyncio.Event) -> ScriptedLLM:
    """Its first answer waits at the gate."""
    return ScriptedLLM([[gate, *says("one")]], otherwise=says("yes"))


@pytest.fixture
def host(world: Any, llm: ScriptedLLM) -> Any:
    return world.host(llm, inbox_max=4)


@pytest.fixture
async def queue(world: Any, host: Any, llm: ScriptedLLM, until: Callable[..., Any]) -> list[Any]:
    """A turn that runs, and two messages behind it."""
    commands = [world.submit(text) for text in ("first", "second", "third")]
    for command in commands:
        await host.submit(command)
    await until(lambda: llm.open == 1)
    return commands


def said(llm: ScriptedLLM) -> list[str]:
    """What the last request told the model, beside the system prompt."""
    return [message.content for message in llm.requests[-1].messages[1:]]


async def test_shows_what_waits_in_its_order(world: Any, host: Any, queue: list[Any]) -> None:
    steer = world.submit("by the way", on_busy="steer")
    assert (await host.submit(steer)).position == 1
    assert await host.inbox("sess_1", "user_1") == (
        Waiting(steer.message_id, steer.turn_id, "by the way", "steer", 1),
        Waiting(queue[1].message_id, queue[1].turn_id, "second", "enqueue", 2),
        Waiting(queue[2].message_id, queue[2].turn_id, "third", "enqueue", 3),
    )
    with pytest.raises(SessionNotFound):
        await host.inbox("sess_1", "user_2")


async def test_is_empty_when_all_is_answered(world: Any, host: Any, queue: list[Any], gate: asyncio.Event) -> None:
    gate.set()
    await host.chat(queue[2], wait_s=5)
    assert await host.inbox("sess_1", "user_1") == ()


async def test_the_model_reads_what_a_message_was_changed_to(
    world: Any, host: Any, llm: ScriptedLLM, queue: list[Any], gate: asyncio.Event
) -> None:
    for content in ("2nd", "zweitens"):
        await host.control("sess_1", "user_1", Edit(queue[1].message_id, content))
    assert [waiting.content for waiting in await host.inbox("sess_1", "user_1")] == ["zweitens", "third"]
    gate.set()
    await host.chat(queue[1], wait_s=5)
    assert said(llm) == ["first", "one", "zweitens"]
    assert [body.content for body in await world.bodies(MessageEdited)] == ["2nd", "zweitens"]


async def test_a_change_outlives_the_host(world: Any, host: Any, queue: list[Any]) -> None:
    await host.control("sess_1", "user_1", Edit(queue[1].message_id, "2nd"))
    await world.die(host)
    llm = ScriptedLLM(otherwise=says("yes"))
    await world.host(llm).chat(queue[1], wait_s=5)
    assert said(llm) == ["first", "yes", "2nd"]


async def test_a_change_to_the_same_words_writes_nothing(world: Any, host: Any, queue: list[Any]) -> None:
    before = await world.types()
    await host.control("sess_1", "user_1", Edit(queue[1].message_id, "second"))
    assert await world.types() == before


@pytest.mark.parametrize("order", [lambda m: Edit(m, "late"), Withdraw])
async def test_too_late_for_a_message_whose_turn_has_begun_or_ended(
    world: Any, host: Any, queue: list[Any], gate: asyncio.Event, order: Callable[[str], Any]
) -> None:
    with pytest.raises(MessageNotWaiting) as caught:
        await host.control("sess_1", "user_1", order(queue[0].message_id))
    assert caught.value.details["turn_id"] == queue[0].turn_id
    gate.set()
    await host.chat(queue[2], wait_s=5)
    before = await world.types()
    with pytest.raises(MessageNotWaiting):
        await host.control("sess_1", "user_1", order(queue[0].message_id))
    with pytest.raises(MessageNotFound):
        await host.control("sess_1", "user_1", order("msg_nobody"))
    with pytest.raises(SessionNotFound):
        await host.control("sess_1", "user_2", order(queue[0].message_id))
    assert await world.types() == before


async def test_an_empty_message_is_not_what_one_is_changed_to(host: Any, queue: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        await host.control("sess_1", "user_1", Edit(queue[1].message_id, " \n"))


async def test_withdrawn_a_message_is_never_said(
    world: Any, host: Any, llm: ScriptedLLM, queue: list[Any], gate: asyncio.Event
) -> None:
    waiting = asyncio.create_task(host.chat(queue[1], wait_s=5))
    await asyncio.sleep(0)
    await host.control("sess_1", "user_1", Withdraw(queue[1].message_id))
    result = await waiting
    assert (result.status, result.steps, result.stopped) == ("cancelled", 0, ())
    gate.set()
    await host.chat(queue[2], wait_s=5)
    assert said(llm) == ["first", "one", "third"]
    assert await world.bodies(TurnCancelled) == [TurnCancelled((), 0, result.spent)]


async def test_orders_whose_answer_was_lost_may_be_given_again(
    world: Any, host: Any, queue: list[Any], gate: asyncio.Event, until: Callable[..., Any]
) -> None:
    """As when the host dies after it has written and before it has answered."""
    edit, withdraw = Edit(queue[1].message_id, "2nd"), Withdraw(queue[2].message_id)
    for order in (edit, withdraw):
        await host.control("sess_1", "user_1", order)
    await world.die(host)
    gate.clear()
    llm = ScriptedLLM([says("one"), [gate, *says("two")]])
    other = world.host(llm)
    await other.wake("sess_1")
    await until(lambda: len(llm.requests) == 2)  # the turn of the message that was changed has begun
    before = await world.types()
    for order in (edit, withdraw):
        await other.control("sess_1", "user_1", order)
    assert await world.types() == before
    with pytest.raises(MessageNotWaiting):
        await other.control("sess_1", "user_1", Edit(queue[1].message_id, "something else"))


async def test_a_withdrawn_message_that_is_sent_again_stays_withdrawn(
    world: Any, host: Any, llm: ScriptedLLM, queue: list[Any], gate: asyncio.Event
) -> None:
    await host.control("sess_1", "user_1", Withdraw(queue[1].message_id))
    receipt = await host.submit(queue[1])
    assert (receipt.turn_id, receipt.position) == (queue[1].turn_id, 0)
    gate.set()
    await host.chat(queue[2], wait_s=5)
    assert "second" not in said(llm)


@pytest.mark.parametrize("turns_of_the_loop", range(12))
@pytest.mark.parametrize("kind", ["edit", "withdraw"])
async def test_in_the_moment_in_which_the_turn_begins(
    world: Any,
    host: Any,
    llm: ScriptedLLM,
    queue: list[Any],
    gate: asyncio.Event,
    kind: str,
    turns_of_the_loop: int,
) -> None:
    """Either it came in time, and then it holds; or it is told that it came too late."""
    gate.set()
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0)
    message_id = queue[1].message_id
    order = Edit(message_id, "2nd") if kind == "edit" else Withdraw(message_id)
    try:
        await host.control("sess_1", "user_1", order)
    except MessageNotWaiting:
        words = ["second"]
    else:
        words = ["2nd"] if kind == "edit" else []
    await host.chat(queue[2], wait_s=5)
    assert [word for word in said(llm) if word in ("second", "2nd")] == words
    turn = await world.book.turn(queue[1].turn_id, "user_1")
    assert turn.status == ("completed" if words else "cancelled")


async def test_a_full_inbox_takes_no_more_until_there_is_room(world: Any, host: Any, queue: list[Any]) -> None:
    for _ in range(2):
        await host.submit(world.submit())
    for on_busy in ("enqueue", "steer", "interrupt"):
        with pytest.raises(InboxFull) as caught:
            await host.submit(world.submit("one too many", on_busy=on_busy))
        assert (caught.value.retryable, caught.value.details["limit"]) == (True, 4)
    assert not (await world.types()).count("turn.cancelled"), "a message that was not taken interrupted the turn"
    await host.submit(queue[1])  # one that was taken before is no new one
    await host.control("sess_1", "user_1", Withdraw(queue[1].message_id))
    await host.submit(world.submit("there is room"))


async def test_a_paused_session_in_which_nothing_runs_takes_as_many(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")), inbox_max=4)
    await host.chat(world.submit(), wait_s=5)
    await host.control("sess_1", "user_1", Pause())
    for _ in range(4):
        await host.submit(world.submit())
    with pytest.raises(InboxFull):
        await host.submit(world.submit())


async def test_rejected_while_a_turn_runs_and_taken_while_none_does(
    world: Any, host: Any, queue: list[Any], gate: asyncio.Event
) -> None:
    with pytest.raises(SessionBusy) as caught:
        await host.submit(world.submit("now or never", on_busy="reject"))
    assert (caught.value.retryable, caught.value.details["turn_id"]) == (True, queue[0].turn_id)
    gate.set()
    await host.chat(queue[2], wait_s=5)
    assert (await host.chat(world.submit("now or never", on_busy="reject"), wait_s=5)).message == "yes"


async def test_every_message_is_counted_once_by_what_became_of_it(
    world: Any, host: Any, queue: list[Any], until: Callable[..., Any]
) -> None:
    before = counts()
    gone = asyncio.create_task(host.submit(world.submit("its caller goes away")))
    await asyncio.sleep(0)
    gone.cancel()
    await host.submit(world.submit())
    await host.submit(queue[1])  # a repeat
    for refused in (world.submit("no", on_busy="reject"), world.submit(" "), world.submit("full")):
        with pytest.raises(GreenroomError):
            await host.submit(refused)
    assert (await world.types()).count("message.accepted") == 5
    assert counts() == (before[0] + 5, before[1] + 2, before[2] + 3)


async def test_a_message_to_a_session_that_is_not_in_memory_is_not_counted_as_refused(world: Any) -> None:
    await world.host(ScriptedLLM(otherwise=says("yes"))).chat(world.submit(), wait_s=5)
    before = counts()
    await world.host(ScriptedLLM(otherwise=says("yes"))).chat(world.submit(), wait_s=5)
    assert counts() == (before[0] + 1, before[1] + 1, before[2])


async def test_a_message_that_could_not_be_written_is_counted_as_refused(world: Any) -> None:
    line = world.line()
    host = world.host(ScriptedLLM(), line=line)
    line.refusal = StoreUnavailable()
    before = counts()
    with pytest.raises(StoreUnavailable):
        await host.submit(world.submit())
    assert counts() == (before[0] + 1, before[1], before[2] + 1)


def counts() -> tuple[float, float, float]:
    """Received, enqueued, rejected."""
    received, enqueued, rejected = (
        counter._value.get()
        for counter in (telemetry.INBOX_RECEIVED, telemetry.INBOX_ENQUEUED, telemetry.INBOX_REJECTED)
    )
    return received, enqueued, rejected
