"""What becomes of a message: the turn, its order of events, its bill, and the ways in which it stops."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import pytest
import sqlalchemy as sa

from actors.agent.sessions import Receipt, TurnResult
from actors.agent.tables import SESSIONS
from actors.core.errors import ModelRefused, ModelUnavailable, SessionNotFound
from actors.core.events import MessageCompleted, TurnCompleted, TurnFailed, UsageUpdated
from actors.core.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from actors.llm.base import Answer, Began, Resending, Retrying, TextDelta
from actors.testing import ScriptedLLM, calls, says
from actors.testing.llm import Script
from actors.testing.sandboxes import FakeSandboxes


async def chat(host: Any, command: Any) -> TurnResult:
    result = await host.chat(command, wait_s=5)
    assert isinstance(result, TurnResult), "the turn did not end in time"
    return result


async def test_a_straight_turn(world: Any) -> None:
    llm = ScriptedLLM([says("Good ", "day.")])
    result = await chat(world.host(llm), world.submit("Hello there"))
    assert (result.status, result.stop_reason, result.message, result.steps) == (
        "completed",
        "end_turn",
        "Good day.",
        1,
    )
    assert (result.spent.usage.prompt_tokens, result.spent.usage.completion_tokens) == (10, 2)
    assert (result.spent.cost_micros, result.spent.cost_known) == (10, True)
    assert await world.types() == [
        "session.created",
        "message.accepted",
        "turn.started",
        "message.completed",
        "usage.updated",
        "turn.completed",
    ]
    row = await world.book.get("sess_1", "user_1")
    assert (row.title, row.status, row.last_seq) == ("Hello there", "idle", 6)
    assert row.spent == result.spent


async def test_what_is_journalled_is_what_was_answered(world: Any) -> None:
    host = world.host(ScriptedLLM([calls(("run_shell", {"command": "ls"}), text="Let me look."), says("Two files.")]))
    result = await chat(host, world.submit())
    turn = await world.book.turn(result.turn_id, "user_1")
    assert (turn.status, turn.outcome) == ("completed", TurnCompleted("end_turn", 2, result.spent))
    assert [body.content for body in await world.bodies(MessageCompleted)] == ["Let me look.", "Two files."]
    attempts = await world.attempts()
    assert [(a.state, a.outcome, a.cost_exact) for a in attempts] == [
        ("settled", "tool_calls", Decimal("0.000010")),
        ("settled", "stop", Decimal("0.000010")),
    ]


async def test_the_model_reads_the_whole_conversation(world: Any) -> None:
    llm = ScriptedLLM([calls(("run_shell", {"command": "ls"}), text="Let me look.", ids=["id_1"]), says("Empty.")])
    sandboxes = FakeSandboxes()
    await chat(world.host(llm, sandboxes=sandboxes), world.submit("What is there?"))
    system, *rest = llm.requests[1].messages
    assert isinstance(system, SystemMessage)
    assert isinstance(rest[1], AssistantMessage)
    assert [call.id for call in rest[1].tool_calls] == ["id_1"]
    assert rest[0] == UserMessage("What is there?")
    assert rest[2] == ToolMessage("id_1", "(no output)")
    assert {spec.name for spec in llm.requests[0].tools} >= {"run_shell", "run_python", "remember"}
    assert [(run.kind, run.source) for run in sandboxes.runs] == [("shell", "ls")]


async def test_queued_messages_run_one_after_the_other_in_order(world: Any, until: Callable[..., Any]) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *says("one")], says("two"), says("three")])
    host = world.host(llm)
    commands = [world.submit(text) for text in ("first", "second", "third")]
    receipts = [await host.submit(command) for command in commands]
    assert [receipt.position for receipt in receipts] == [0, 1, 2]
    assert await world.types() == [
        *("session.created", "message.accepted", "turn.started"),
        *("message.accepted", "turn.queued", "message.accepted", "turn.queued"),
    ]
    last = asyncio.create_task(host.chat(commands[2], wait_s=5))
    gate.set()
    assert (await last).message == "three"
    order = [
        (e.body.type, e.turn_id) for e in await world.events() if e.body.type in {"turn.started", "turn.completed"}
    ]
    turns = [command.turn_id for command in commands]
    assert order == [(kind, turn) for turn in turns for kind in ("turn.started", "turn.completed")]
    said = [message.content for message in llm.requests[2].messages[1:]]
    assert said == ["first", "one", "second", "two", "third"]


async def test_a_message_that_is_sent_again_runs_once(world: Any) -> None:
    llm = ScriptedLLM([says("once")])
    host = world.host(llm)
    command = world.submit()
    first, second = await asyncio.wait_for(_both(chat(host, command), chat(host, command)), 5)
    assert first == second
    third = await chat(host, command)
    assert (third, len(llm.requests)) == (first, 1)


async def _both(one: Any, other: Any) -> tuple[Any, Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one), group.create_task(other)]
    return tasks[0].result(), tasks[1].result()


async def test_the_receipt_of_a_repeated_message_says_where_the_message_stands(world: Any) -> None:
    """A stream starts at the receipt's number: a wrong one cuts the turn's first events off."""
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    command = world.submit()
    receipt = await host.submit(command)
    await chat(host, command)
    await chat(host, world.submit("another"))
    assert await host.submit(command) == Receipt("sess_1", command.turn_id, command.message_id, receipt.seq, 0)


async def test_chat_that_takes_too_long_returns_the_receipt(world: Any) -> None:
    host = world.host(ScriptedLLM([[asyncio.Event()]]))
    command = world.submit()
    assert await host.chat(command, wait_s=0.01) == Receipt("sess_1", command.turn_id, command.message_id, 2, 0)


async def test_a_session_that_does_not_exist_is_not_opened_by_a_message(world: Any) -> None:
    host = world.host(ScriptedLLM())
    with pytest.raises(SessionNotFound):
        await host.submit(world.submit(new=None))
    assert host.status().sessions == ()


@pytest.mark.parametrize("text", ["", "It is because "])
async def test_a_model_error_fails_the_turn_and_keeps_its_text(world: Any, text: str) -> None:
    deltas = [TextDelta(text)] if text else []
    host = world.host(ScriptedLLM([[*deltas, ModelUnavailable("the server hung up")], says("back")]))
    result = await chat(host, world.submit())
    assert (result.status, result.stop_reason, result.message) == ("failed", "error", text)
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == ("model_unavailable", True)
    assert result.error.message == "the server hung up"
    partial = await world.bodies(MessageCompleted)
    assert [(body.content, body.finish_reason) for body in partial] == ([(text, "interrupted")] if text else [])
    # What it cost is not known, and nobody says that it was nothing.
    assert not result.spent.cost_known
    assert [(a.state, a.outcome, a.cost_micros) for a in await world.attempts()] == [
        ("ended", "model_unavailable", None)
    ]
    assert (await chat(host, world.submit("again"))).message == "back"


async def test_a_refused_request_costs_nothing(world: Any) -> None:
    result = await chat(world.host(ScriptedLLM([[ModelRefused("no credit")]])), world.submit())
    assert (result.status, result.spent.cost_micros, result.spent.cost_known) == ("failed", 0, True)
    assert [a.cost_source for a in await world.attempts()] == ["free"]


async def test_the_last_attempt_that_was_never_billed_costs_nothing(world: Any) -> None:
    busy = ModelUnavailable("no room", free=True)
    script = [Retrying("model_unavailable", free=True), Resending(), busy]
    result = await chat(world.host(ScriptedLLM([script])), world.submit())
    assert (result.status, result.spent.cost_micros, result.spent.cost_known) == ("failed", 0, True)
    assert [(a.state, a.cost_source) for a in await world.attempts()] == [("settled", "free")] * 2


async def test_a_call_that_a_breaker_refuses_was_not_sent(world: Any) -> None:
    refused = ModelUnavailable("left alone", cause="breaker_open", retry_after_s=5, not_sent=True, free=True)
    result = await chat(world.host(ScriptedLLM([[refused]])), world.submit())
    assert (result.status, result.spent.cost_micros, result.spent.cost_known) == ("failed", 0, True)
    assert [(a.outcome, a.cost_source) for a in await world.attempts()] == [("not_sent", "free")]


class Reached(asyncio.Event):
    """A step that never ends, and says when a script has come to it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.reached.set()
        return await super().wait()


async def test_a_call_that_is_cancelled_can_be_looked_up(world: Any) -> None:
    step = Reached()
    host = world.host(ScriptedLLM([[Began("gen-1"), TextDelta("I"), step]]))
    command = world.submit()
    await host.submit(command)
    await step.reached.wait()
    await host.cancel("sess_1", "user_1", command.turn_id)
    [attempt] = await world.attempts()
    assert (attempt.outcome, attempt.cost_source) == ("cancelled", "unknown")
    assert attempt.details["generation_id"] == "gen-1"


async def test_a_refusal_amid_an_answer_is_not_taken_for_free(world: Any) -> None:
    result = await chat(world.host(ScriptedLLM([[TextDelta("I wi"), ModelRefused("no more")]])), world.submit())
    assert not result.spent.cost_known


async def test_a_cancel_while_the_next_attempt_is_waited_for_opens_no_row(world: Any) -> None:
    waiting = asyncio.Event()

    class Waiting(ScriptedLLM):
        async def stream(self, request: Any) -> Any:
            async for item in super().stream(request):
                yield item
                waiting.set()  # asked for the next item: what came of this one is done

    host = world.host(Waiting([[Retrying("model_unavailable", free=True), asyncio.Event()]]))
    command = world.submit()
    chatting = asyncio.create_task(host.chat(command, wait_s=5))
    await waiting.wait()
    assert (await host.cancel("sess_1", "user_1", command.turn_id)).status == "cancelled"
    result = await chatting
    assert (result.spent.cost_micros, result.spent.cost_known) == (0, True)
    assert [(a.outcome, a.cost_source) for a in await world.attempts()] == [("model_unavailable", "free")]


async def test_each_request_of_one_call_has_a_ledger_row_before_it_is_sent(world: Any) -> None:
    sent: list[int] = []

    class Counting(ScriptedLLM):
        async def stream(self, request: Any) -> Any:
            async for item in super().stream(request):
                yield item
                if isinstance(item, Resending):
                    sent.append(len(await world.attempts()))

    failures = [Retrying("model_unavailable", free=True), Retrying("model_protocol_error")]
    script = [*(item for failure in failures for item in (failure, Resending())), *says("at last")]
    result = await chat(world.host(Counting([script])), world.submit())

    assert (result.message, result.steps, sent) == ("at last", 1, [2, 3])
    assert [(a.state, a.outcome, a.cost_micros) for a in await world.attempts()] == [
        ("settled", "model_unavailable", 0),
        ("ended", "model_protocol_error", None),
        ("settled", "stop", 10),
    ]
    assert len(await world.bodies(UsageUpdated)) == 3
    assert not result.spent.cost_known


async def test_a_cancel_between_two_requests_of_one_call_closes_each_row_once(world: Any, until: Any) -> None:
    line = world.line()
    reached = asyncio.Event()

    class Holding(ScriptedLLM):
        async def stream(self, request: Any) -> Any:
            line.hold()
            reached.set()
            async for item in super().stream(request):
                yield item

    host = world.host(Holding([[Retrying("model_unavailable"), Resending(), *says("never")]]), line=line)
    command = world.submit()
    waiting = asyncio.create_task(host.chat(command, wait_s=5))
    await reached.wait()
    await until(lambda: line.waiting == 1)
    cancelling = asyncio.create_task(host.cancel("sess_1", "user_1", command.turn_id))
    await asyncio.sleep(0)
    line.release()

    assert (await cancelling).status == "cancelled"
    await waiting
    assert [(a.outcome, a.cost_micros) for a in await world.attempts()] == [
        ("model_unavailable", None),
        ("not_sent", 0),
    ]


async def test_a_defect_in_the_model_client_fails_the_turn_and_not_the_session(world: Any) -> None:
    host = world.host(ScriptedLLM([[ZeroDivisionError("oops")], says("fine")]))
    result = await chat(host, world.submit())
    assert result.error is not None
    assert result.error.code == "internal"
    assert "oops" not in result.error.message
    assert (await chat(host, world.submit())).message == "fine"


async def test_a_stream_without_an_answer_is_a_protocol_error(world: Any) -> None:
    result = await chat(world.host(ScriptedLLM([[TextDelta("I")]])), world.submit())
    assert result.error is not None
    assert result.error.code == "model_protocol_error"


async def test_a_model_that_never_ends_is_stopped_by_the_clock(world: Any) -> None:
    llm = ScriptedLLM([[TextDelta("Once upon"), asyncio.Event()]])
    result = await chat(world.host(llm, turn_max_s=0.5), world.submit())
    assert (result.status, result.stop_reason, result.message) == ("completed", "timeout", "Once upon")
    assert (llm.open, llm.broken_off) == (0, 1)


async def test_a_tool_that_never_ends_is_stopped_by_the_clock(world: Any) -> None:
    sandboxes = FakeSandboxes(hanging=["sleep"])
    host = world.host(ScriptedLLM([calls(("run_shell", {"command": "sleep"}))]), sandboxes=sandboxes, turn_max_s=0.5)
    result = await chat(host, world.submit())
    assert (result.stop_reason, len(sandboxes.cancelled)) == ("timeout", 1)
    assert [(tool.call.name, tool.error) for tool in result.tools] == [("run_shell", "stopped")]


LOOKING: Script = calls(("run_shell", {"command": "ls"}))


@pytest.mark.parametrize(
    ("limit", "stop", "steps"),
    [
        ({"turn_max_steps": 3}, "max_steps", 3),
        ({"turn_max_tokens": 40}, "max_tokens", 2),
        ({"turn_max_cost_micros": 20}, "max_cost", 2),
    ],
)
async def test_a_model_that_calls_tools_for_ever_meets_a_limit(
    world: Any, limit: dict[str, int], stop: str, steps: int, check_openai: Callable[..., None]
) -> None:
    llm = ScriptedLLM(otherwise=LOOKING)
    result = await chat(world.host(llm, **limit), world.submit())
    assert (result.status, result.stop_reason, result.steps, len(llm.requests)) == ("completed", stop, steps, steps)
    # The calls of the last answer were run: each of them has its result.
    assert len(result.tools) == steps
    check_openai((await world.state()).transcript)


async def test_no_cost_limit_is_zero(world: Any) -> None:
    llm = ScriptedLLM([LOOKING, says("dear", cost_usd=Decimal(100))])
    result = await chat(world.host(llm, turn_max_cost_micros=0), world.submit())
    assert (result.stop_reason, result.spent.cost_micros) == ("end_turn", 100_000_010)


@pytest.mark.parametrize(("finish", "stop"), [("length", "max_tokens"), ("content_filter", "refusal")])
async def test_an_answer_that_was_cut_short_says_so(world: Any, finish: str, stop: str) -> None:
    answer = Answer(AssistantMessage("I"), "scripted", finish)
    assert (await chat(world.host(ScriptedLLM([[answer]])), world.submit())).stop_reason == stop


async def test_an_unknown_price_is_not_taken_for_nothing(world: Any) -> None:
    host = world.host(ScriptedLLM([says("a", cost_usd=None), says("b")]))
    first, second = await chat(host, world.submit()), await chat(host, world.submit())
    assert (first.spent.cost_known, second.spent.cost_known) == (False, True)
    total = (await world.bodies(UsageUpdated))[-1].session
    assert (total.cost_micros, total.cost_known) == (10, False)
    row = await world.database.read(lambda c: c.execute(sa.select(SESSIONS)).one())
    assert (row.cost_micros, row.cost_known) == (10, False)


async def test_what_was_billed_for_a_rejected_answer_is_on_the_books(world: Any) -> None:
    """33 calls are more than is taken; the provider bills the answer all the same."""
    many = calls(*[("run_shell", {"command": "ls"})] * 33, ids=[f"id_{n}" for n in range(33)])
    result = await chat(world.host(ScriptedLLM([many])), world.submit())
    assert result.error is not None
    assert result.error.code == "model_protocol_error"
    assert (result.spent.cost_micros, result.spent.cost_known) == (10, True)
    assert [a.cost_micros for a in await world.attempts()] == [10]


async def test_a_turn_that_fails_answers_the_calls_it_left_open(
    world: Any, check_openai: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: Any) -> None:
        raise RuntimeError("the toolbox is broken")

    monkeypatch.setattr("actors.tools.toolbox.Toolbox.run", crash)
    host = world.host(ScriptedLLM([calls(("run_shell", {"command": "a"}), ("run_shell", {"command": "b"}))]))
    result = await chat(host, world.submit())
    assert [type(body) for body in await world.bodies(TurnFailed)] == [TurnFailed]
    assert [tool.error for tool in result.tools] == ["stopped", "stopped"]
    assert [tool.content for tool in result.tools] == [
        "Stopped before it finished: the turn failed.",
        "Not run: the turn failed.",
    ]
    check_openai((await world.state()).transcript)


async def test_an_error_whose_text_is_cut_in_a_character_fails_the_turn_once(world: Any) -> None:
    llm = ScriptedLLM([[ModelRefused("bad input \ud83d")]])
    result = await chat(world.host(llm), world.submit())
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("model_refused", "bad input \ufffd")
    assert len(llm.requests) == 1


async def test_names_in_an_answer_that_no_column_can_hold_are_mended(world: Any) -> None:
    answer = Answer(AssistantMessage("Hi"), "m\ud83d", "stop\0", provider="p\0", generation_id="g\ud83d")
    result = await chat(world.host(ScriptedLLM([[TextDelta("Hi"), answer]])), world.submit())
    assert result.status == "completed"
    (row,) = await world.attempts()
    assert row.outcome == "stop\ufffd"
    (said,) = await world.bodies(MessageCompleted)
    assert (said.model, said.finish_reason, said.provider) == ("m\ufffd", "stop\ufffd", "p\ufffd")
