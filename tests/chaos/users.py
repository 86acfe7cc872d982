"""What users do, at random from a seed: talk, follow, leave, cancel, pause, and come back."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from . import messages
from .client import Client, Json, Turn
from .reading import Reader, follow, read_pages, watch
from .saying import chat, stream, submit
from .waiting import eventually

CATCH_UP_S = 30.0
SESSION_TURNS = 12
"""After so many messages or so a user opens another session."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is used of the API besides the basics."""

    keys: bool = True
    """Messages carry an `Idempotency-Key`, and are sent again until it is known what became of them."""
    controls: bool = True
    """Sessions are paused, resumed and interrupted; messages interrupt and steer."""


@dataclass
class User:
    """One user with one session after the other."""

    client: Client
    features: Features
    watches: bool
    """Keeps a stream of the whole session open besides."""
    sessions: list[str] = field(default_factory=list[str])
    paused: set[str] = field(default_factory=set[str])
    _watched: list[tuple[Reader, asyncio.Task[None]]] = field(default_factory=list[tuple[Reader, asyncio.Task[None]]])
    _turns_left: int = 0

    async def live(self, is_over: Callable[[], bool], watchers: asyncio.TaskGroup) -> None:
        """Do one thing after the other. `watchers` takes the streams that stay open beside them."""
        dice = self.client.dice
        while not is_over():
            if self._turns_left <= 0:
                session_id = await self.client.open_session()
                if session_id is None:
                    continue
                self._begin(session_id, watchers)
            self._turns_left -= 1
            await self._do()
            await asyncio.sleep(dice.uniform(0.1, 1.0))
        await self.resume()

    def _begin(self, session_id: str, watchers: asyncio.TaskGroup) -> None:
        self.sessions.append(session_id)
        self._turns_left = self.client.dice.randint(SESSION_TURNS // 2, SESSION_TURNS * 2)
        if self.watches:
            reader = Reader(self.client.fresh("watcher"), session_id)
            self._watched.append((reader, watchers.create_task(watch(self.client, reader))))

    async def _do(self) -> None:
        dice = self.client.dice
        actions = [self._chat, self._chat, self._stream, self._stream, self._come_back, self._cancel]
        if self.features.controls:
            actions += [self._pause, self._interrupt, self._crowd]
        await dice.choice(actions)()

    def _body(self, **more: str) -> Json:
        tag = self.client.fresh("t")
        content = self.client.dice.choice(messages.KINDS)(tag, self.client.dice)
        return {"message": content, "session_id": self.sessions[-1], **more}

    async def _chat(self) -> None:
        body = self._body()
        if self.client.dice.random() < 0.1:
            del body["session_id"]  # a session that comes with its message
        await chat(self.client, body, keyed=self.features.keys)

    async def _stream(self) -> None:
        dice = self.client.dice
        leave_after = dice.randint(1, 12) if dice.random() < 0.3 else None
        await stream(self.client, self._body(), keyed=self.features.keys, leave_after=leave_after)

    async def _come_back(self) -> None:
        if (turn := await self._submit()) is not None:
            await self.client.wait(turn)

    async def _cancel(self) -> None:
        if (turn := await self._submit()) is not None:
            await asyncio.sleep(self.client.dice.uniform(0, 3))
            await self.client.cancel(turn)

    async def _pause(self) -> None:
        session_id = self.sessions[-1]
        self.paused.add(session_id)
        await self._submit()
        await self.client.order(session_id, "pause")
        await asyncio.sleep(self.client.dice.uniform(0, 4))
        await self.resume()

    async def _interrupt(self) -> None:
        await self._submit()
        await asyncio.sleep(self.client.dice.uniform(0, 2))
        await self.client.order(self.sessions[-1], "interrupt")

    async def _crowd(self) -> None:
        """Several messages at once, which wait, interrupt or steer."""
        ways = [{}, {"on_busy": "interrupt"}, {"on_busy": "steer"}]
        turns = [await self._submit(**more) for more in self.client.dice.sample(ways, k=len(ways))]
        for turn in turns:
            if turn is not None:
                await self.client.wait(turn)

    async def _submit(self, **more: str) -> Turn | None:
        return await submit(self.client, self._body(**more), keyed=self.features.keys)

    async def resume(self) -> None:
        """Let every session go on that this user has paused."""
        for session_id in list(self.paused):
            if await self.client.order(session_id, "resume"):
                self.paused.discard(session_id)

    async def count_effects(self) -> None:
        """One more turn in each session, that shows what was done there."""
        for session_id in self.sessions:
            body = {"message": messages.count(self.client.fresh("t")), "session_id": session_id}
            await chat(self.client, body, keyed=self.features.keys)

    async def read_all(self) -> list[str]:
        """Read every session once more, by pages and as somebody new, and let the watchers come to its end.

        Says who did not get there: an owner that was overtaken may still think that it knows a session.
        """
        last = {session_id: await read_pages(self.client, session_id) for session_id in self.sessions}
        behind: list[str] = []
        for session_id, end in last.items():
            newcomer = Reader(self.client.fresh("newcomer"), session_id, last=end)
            if not await follow(self.client, newcomer, within_s=CATCH_UP_S):
                behind.append(f"{newcomer.name} has {newcomer.after} of {end} events of {session_id}")
        for reader, task in self._watched:
            end = last[reader.session_id]
            if not await eventually(lambda reader=reader, end=end: reader.after >= end, within_s=CATCH_UP_S):
                behind.append(f"{reader.name} has {reader.after} of {end} events of {reader.session_id}")
            task.cancel()
        return behind
