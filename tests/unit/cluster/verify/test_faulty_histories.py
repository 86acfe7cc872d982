"""Whatever fails: the histories that come of it keep every promise, towards those too who got no answer."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from random import Random
from typing import Any

import pytest

from actors.agent.host import SessionHost
from actors.agent.orders import Pause, Resume
from actors.agent.sessions import Submit
from actors.core.clock import SystemClock
from actors.core.errors import GreenroomError
from actors.testing import ScriptedLLM, calls, says
from actors.testing.faults import Faults, FaultyJournal, FaultyLLM, FaultyMemories, FaultySandboxes
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes
from cluster.verify import Answered, Record, Sent, Unanswered, check_history

SESSION = "sess_1"
USER = "user_1"
TALK = (
    says("Yes."),
    says("No."),
    calls(("run_shell", {"command": "ls"}), text="Looking."),
    calls(("run_python", {"code": "1"}), ("write_file", {"path": "a", "content": "b"})),
    calls(("recall", {"query": "tea"})),
)


class Story:
    """One session in a world where one call in ten fails. A host that lost its session is followed by another."""

    def __init__(self, place: Any, seed: int) -> None:
        self.place = place
        self.dice = Random(seed)
        self.faults = Faults(
            {
                "before": 0.03,
                "after": 0.04,
                "delay": 0.03,
                "refuse": 0.02,
                "break_off": 0.05,
                "stall": 0.02,
                "lost": 0.05,
            },
            seed=seed,
            clock=SystemClock(),
            delay_s=0.001,
            stall_s=0.002,
        )
        self.journal = FaultyJournal(place.journal, self.faults)
        self.sandboxes = FaultySandboxes(FakeSandboxes(), self.faults)
        self.memories = FaultyMemories(DictMemories(), self.faults)
        talk = [self.dice.choice(TALK) for _ in range(200)]
        self.llm = FaultyLLM(ScriptedLLM(talk, otherwise=says("Done.")), self.faults)
        self.log: list[Record] = []
        self.sent: list[Submit] = []
        self.requests = 0
        self.here = self.host()

    def host(self) -> SessionHost:
        return self.place.host(self.llm, journal=self.journal, sandboxes=self.sandboxes, memories=self.memories)

    async def happen(self) -> None:
        what = self.dice.choice(("say", "say", "say", "repeat", "cancel", "pause", "move", "wait"))
        try:
            match what:
                case "say":
                    on_busy = self.dice.choice(("enqueue", "enqueue", "steer", "interrupt"))
                    await self.say(self.place.says(f"message {len(self.sent)}", on_busy=on_busy))
                case "repeat" if self.sent:
                    await self.say(self.dice.choice(self.sent))
                case "cancel" if self.sent:
                    await self.here.cancel(SESSION, USER, self.dice.choice(self.sent).turn_id)
                case "pause" if self.sent:
                    await self.here.control(SESSION, USER, self.dice.choice((Pause(), Resume())))
                case "move" if self.sent:
                    await self.move()  # the other one knows nothing of it and goes on
                case _:
                    await asyncio.sleep(0.001)
        except GreenroomError:
            await self.move_on()

    async def say(self, command: Submit) -> None:
        """The ids are those of the key, so each request of a message is a repeat of it."""
        self.requests += 1
        request = f"r{self.requests}"
        if command not in self.sent:
            self.sent.append(command)
        self.log.append(Sent(request, command.content, SESSION, key=command.message_id))
        try:
            receipt = await self.here.submit(command)
        except GreenroomError as error:
            self.log.append(Unanswered(request, error.code))
            raise
        told = Answered(request, 202, SESSION, receipt.turn_id, receipt.message_id, receipt.seq)
        self.log.append(told)

    async def say_at_last(self) -> None:
        """Something is accepted, however often it takes."""
        command = self.place.says(f"message {len(self.sent)}")
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.say(command)
                except GreenroomError:
                    await self.move_on()
                else:
                    return

    async def move(self) -> None:
        self.here = self.host()
        await self.here.wake(SESSION)

    async def move_on(self) -> None:
        with suppress(GreenroomError):  # the next call is the next attempt
            await self.move()

    async def end(self) -> None:
        """Without faults from here on, everything ends."""
        self.faults.rates.clear()
        await self.move()
        await self.here.control(SESSION, USER, Resume())
        async with asyncio.timeout(10):
            while (await self.place.evidence()).session.status != "idle":  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.002)


@pytest.mark.parametrize("seed", range(5))
def test_faults_break_no_promise(
    seed: int, open_place: Callable[..., AbstractAsyncContextManager[Any]], entries: Callable[..., Any]
) -> None:
    async def run() -> None:
        async with open_place() as place:
            place.settings = place.settings.model_copy(update={"approval_tools": (), "turn_max_steps": 5})
            story = Story(place, seed)
            for _ in range(6):
                await story.say_at_last()
                for _ in range(8):
                    await story.happen()
                assert check_history([await place.evidence()], client_log=entries(story.log)) == (), "while it runs"
            await story.end()
            evidence = await place.evidence()
            assert check_history([evidence], client_log=entries(story.log), settled=True) == ()
            assert story.faults.injected.total() > 0

    asyncio.run(run())
