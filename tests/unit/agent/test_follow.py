"""Readers: every event once, in order, from any number on; and text as it is written, told apart by its offset."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.agent.previews import TOOL_PREVIEW_CHARS, Previews
from actors.core.errors import GreenroomError, SessionNotFound
from actors.core.events import (
    TERMINAL,
    Event,
    MessageCompleted,
    MessageDelta,
    Preview,
    ReasoningDelta,
    ToolCompleted,
    ToolProgress,
)
from actors.llm.base import ReasoningText, TextDelta
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes


class Reader:
    """A client that asks again and again, as the HTTP edge does, and puts the text together by the offsets."""

    def __init__(self, host: Any, session_id: str = "sess_1", *, after: int = 0) -> None:
        self.host = host
        self.session_id = session_id
        self.after = after
        self.seen: dict[str, int] = {}
        self.events: list[Event] = []
        self.previews: list[Preview] = []
        self.texts: dict[tuple[type[Preview], str], str] = {}
        self.asked = 0

    async def ask(self, *, wait_s: float = 5.0) -> None:
        self.asked += 1
        batch = await self.host.follow(self.session_id, "user_1", after=self.after, seen=self.seen, wait_s=wait_s)
        self.seen = batch.seen
        for event in batch.events:
            assert event.seq == self.after + 1
            self.after = event.seq
            self.events.append(event)
        for preview in batch.previews:
            self.previews.append(preview)
            self._show(preview)

    def _show(self, preview: Preview) -> None:
        item = preview.tool_call_id if isinstance(preview, ToolProgress) else preview.message_id
        key = (type(preview), item)
        text = self.texts.get(key, "")
        assert preview.offset <= len(text), "text is missing in between"
        self.texts[key] = text[: preview.offset] + preview.text

    async def until_end(self) -> None:
        async with asyncio.timeout(5):
            while not (self.events and isinstance(self.events[-1].body, TERMINAL)):
                await self.ask()

    def text(self, kind: type[Preview]) -> str:
        return "".join(text for (shown, _), text in self.texts.items() if shown is kind)


async def whole(reader: Reader) -> Reader:
    await reader.until_end()
    return reader


PIECES = ("The ", "quick ", "brünn ", "漢字 ", "🙂")


async def test_deltas_come_as_they_are_written(world: Any) -> None:
    gates = [asyncio.Event() for _ in PIECES]
    script = [step for gate, piece in zip(gates, PIECES, strict=True) for step in (gate, TextDelta(piece))]
    host = world.host(ScriptedLLM([[*script, says(*PIECES)[-1]]]))
    await host.submit(world.submit())
    reader = Reader(host)
    shown = ""
    for gate, piece in zip(gates, PIECES, strict=True):
        gate.set()
        shown += piece
        async with asyncio.timeout(5):
            while reader.text(MessageDelta) != shown and not (reader.events and len(reader.events) > 3):
                await reader.ask()
    await reader.until_end()
    completed = next(e.body for e in reader.events if isinstance(e.body, MessageCompleted))
    assert completed.content == "".join(PIECES)
    assert [event.seq for event in reader.events] == list(range(1, len(reader.events) + 1))


async def test_a_reader_that_comes_late_gets_the_text_so_far_in_one_piece(
    world: Any, until: Callable[..., Any]
) -> None:
    more = asyncio.Event()
    llm = ScriptedLLM([[ReasoningText("let me "), ReasoningText("see"), *map(TextDelta, PIECES), more, says("x")[-1]]])
    host = world.host(llm)
    await host.submit(world.submit())
    first = Reader(host)
    async with asyncio.timeout(5):
        while first.text(MessageDelta) != "".join(PIECES):
            await first.ask()
    late = Reader(host, after=first.after)
    await late.ask()
    assert [(type(p), p.offset, p.text) for p in late.previews] == [
        (ReasoningDelta, 0, "let me see"),
        (MessageDelta, 0, "".join(PIECES)),
    ]
    asked = asyncio.create_task(late.ask(wait_s=0.05))
    await asked
    assert len(late.previews) == 2, "text that was seen came again"


async def test_an_event_amid_the_text_does_not_repeat_the_text(world: Any) -> None:
    more = asyncio.Event()
    host = world.host(ScriptedLLM([[TextDelta("abc"), more, TextDelta("def"), says("abcdef")[-1]], says("ok")]))
    await host.submit(world.submit())
    reader = Reader(host)
    async with asyncio.timeout(5):
        while reader.text(MessageDelta) != "abc":
            await reader.ask()
    await host.submit(world.submit("and another thing"))
    before = reader.after
    async with asyncio.timeout(5):
        while reader.after == before:
            await reader.ask()
    more.set()
    await reader.ask()
    message = [preview for preview in reader.previews if isinstance(preview, MessageDelta)]
    assert [preview.offset for preview in message] in ([0], [0, 3]), "all the text was sent once more"


async def test_reconnecting_at_every_number_gives_every_later_event_once(world: Any) -> None:
    answers = [calls(("run_shell", {"command": "ls"})), says("a"), says("b"), calls(("nope", {})), says("c")]
    host = world.host(ScriptedLLM(answers))
    for _ in range(3):
        await host.chat(world.submit(), wait_s=5)
    expected = await world.events()
    fresh = world.host(ScriptedLLM())  # has none of it at hand
    for source in (host, fresh):
        for after in range(len(expected)):
            reader = Reader(source, after=after)
            async with asyncio.timeout(5):
                while reader.after < len(expected):
                    await reader.ask()
            assert reader.events == expected[after:]


async def test_a_reader_far_behind_reads_on_from_the_journal(world: Any) -> None:
    host = world.host(ScriptedLLM(otherwise=says("yes")))
    for _ in range(25):  # more events than are kept at hand
        await host.chat(world.submit(), wait_s=5)
    reader = Reader(host)
    async with asyncio.timeout(5):
        while reader.after < host._sessions["sess_1"].log.state.last_seq:
            await reader.ask()
    assert reader.events == await world.events()


async def test_readers_of_a_running_turn_see_it_to_its_end(world: Any) -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM([[gate, *calls(("run_shell", {"command": "ls"}), text="Wait.", ids=["id_1"])], says(*PIECES)])
    sandboxes = FakeSandboxes({"ls": ExecResult("ok", 0, "a.txt\n")})
    host = world.host(llm, sandboxes=sandboxes)
    await host.submit(world.submit())
    readers = [Reader(host, after=after) for after in range(3)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(whole(reader))
        gate.set()
    expected = await world.events()
    for reader in readers:
        assert reader.events == expected[len(expected) - len(reader.events) :]
        assert reader.events[0].seq == readers.index(reader) + 1


async def test_nothing_is_shown_before_it_is_durable(world: Any, until: Callable[..., Any]) -> None:
    line = world.line()
    host = world.host(ScriptedLLM(otherwise=says("yes")), line=line)
    await host.chat(world.submit(), wait_s=5)
    line.hold()
    after = host._sessions["sess_1"].log.state.last_seq
    asked = asyncio.create_task(host.submit(world.submit()))
    await until(lambda: line.waiting == 1)
    batch = await host.follow("sess_1", "user_1", after=after, seen={}, wait_s=0.02)
    assert batch.events == ()
    line.release()
    await asked
    batch = await host.follow("sess_1", "user_1", after=after, seen={}, wait_s=5)
    assert batch.events[0].body.type == "message.accepted"


def test_of_a_tools_output_only_so_much_is_shown() -> None:
    previews = Previews()
    for _ in range(3):
        previews.add("tool.progress", "turn_1", "call_1", "x" * (TOOL_PREVIEW_CHARS // 2))
    previews.add("message.delta", "turn_1", "msg_1", "y" * TOOL_PREVIEW_CHARS * 2)
    assert previews.positions() == {
        "tool.progress:call_1": TOOL_PREVIEW_CHARS,
        "message.delta:msg_1": TOOL_PREVIEW_CHARS * 2,
    }
    (text,) = previews.since({"tool.progress:call_1": 10, "message.delta:msg_1": TOOL_PREVIEW_CHARS * 2})
    assert (text.offset, len(text.text)) == (10, TOOL_PREVIEW_CHARS - 10)
    previews.clear()
    assert previews.since({}) == ()


async def test_the_output_of_a_running_tool_is_shown(world: Any) -> None:
    class Slow(FakeSandboxes):
        async def shell(self, session_id: str, command: str, *, timeout_s: float, on_output: Any = None) -> ExecResult:
            on_output("one\n")
            await more.wait()
            on_output("two\n")
            return ExecResult("ok", 0, "one\ntwo\n")

    more = asyncio.Event()
    llm = ScriptedLLM([calls(("run_shell", {"command": "slow"}), ids=["id_1"]), says("done")])
    host = world.host(llm, sandboxes=Slow())
    await host.submit(world.submit())
    reader = Reader(host)
    async with asyncio.timeout(5):
        while reader.text(ToolProgress) != "one\n":
            await reader.ask()
    more.set()
    await reader.until_end()
    completed = next(e.body for e in reader.events if isinstance(e.body, ToolCompleted))
    assert completed.content == "one\ntwo"


async def test_a_wait_that_runs_out_is_an_empty_batch(world: Any) -> None:
    host = world.host(ScriptedLLM([says("yes")]))
    await host.chat(world.submit(), wait_s=5)
    seen = {"message.delta:msg_9": 3}
    batch = await host.follow("sess_1", "user_1", after=6, seen=seen, wait_s=0.01)
    assert (batch.events, batch.previews) == ((), ())


async def test_what_is_there_is_read_however_short_the_wait_and_slow_the_journal(world: Any) -> None:
    """A page that was given up would look like the end of the journal."""
    line = world.line()
    read = line.read

    async def slow(session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        for _ in range(100):  # longer than a wait of nothing
            await asyncio.sleep(0)
        return await read(session_id, after=after, limit=limit)

    line.read = slow
    await world.host(ScriptedLLM([says("yes")])).chat(world.submit(), wait_s=5)
    elsewhere = world.host(ScriptedLLM(), line=line)
    batch = await elsewhere.follow("sess_1", "user_1", after=0, seen={}, wait_s=0)
    assert [event.seq for event in batch.events] == [1, 2, 3, 4, 5, 6]


async def test_somebody_else_reads_nothing(world: Any) -> None:
    host = world.host(ScriptedLLM([says("secret")]))
    await host.chat(world.submit(), wait_s=5)
    with pytest.raises(SessionNotFound):
        await host.follow("sess_1", "user_2", after=0, seen={}, wait_s=0)
    with pytest.raises(SessionNotFound):
        await world.host(ScriptedLLM()).follow("sess_1", "user_2", after=0, seen={}, wait_s=0)


async def test_a_reader_learns_at_once_that_the_session_was_lost(world: Any) -> None:
    """Fenced, or left at a drain: whoever waits is told to ask elsewhere, and not only when its wait runs out."""
    host = world.host(ScriptedLLM([[TextDelta("I"), asyncio.Event()]]))
    await host.submit(world.submit())
    reader = Reader(host)
    async with asyncio.timeout(5):
        while not reader.previews:
            await reader.ask()
    waiting = asyncio.create_task(host.follow("sess_1", "user_1", after=reader.after, seen=reader.seen, wait_s=30))
    await asyncio.sleep(0)
    await host.drain(grace_s=0)
    with pytest.raises(GreenroomError) as caught:
        await asyncio.wait_for(waiting, 2)
    assert caught.value.retryable
