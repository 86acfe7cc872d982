"""How many model calls run at once, in all and by model; the others wait in turn, every user alike."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import cast

from ..core.clock import Clock
from ..core.errors import ModelUnavailable
from .base import LLM, GenerationRecord, Generations, ModelInfo, ModelRequest, Queued, Sending, StreamItem


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Calls of this process at once; 0 is no limit. At most `queue_max` wait, each for `queue_s` at most."""

    calls: int = 0
    calls_per_model: int = 0
    queue_max: int = 1000
    queue_s: float = 60.0


@dataclass(slots=True, eq=False)
class _Waiting:
    model: str
    granted: asyncio.Future[None]


class FairSlots:
    """Slots under a limit for all and one for each model.

    Users take turns; within a user the first to come is the first to go. A call whose model is full does not hold
    up those behind it that ask for another one.
    """

    def __init__(self, limits: CallLimits, *, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._running = 0
        self._running_of: dict[str, int] = {}
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()  # the first user is next
        self._waiting = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self._waiting

    @asynccontextmanager
    async def slot(self, user: str, model: str) -> AsyncGenerator[None]:
        """Hold a slot. Raises `ModelUnavailable` when too many wait, or when none came in time."""
        await self._take(user, model)
        try:
            yield
        finally:
            self._give(model)

    async def _take(self, user: str, model: str) -> None:
        # Nobody who waits could start now, or it would have: so a call that can start goes before nobody.
        if self._is_free(model):
            self._start(model)
            return
        if self._waiting >= self._limits.queue_max:
            raise _refused(f"{self._waiting} calls wait for a model already", self._limits.queue_s)
        mine = _Waiting(model, asyncio.get_running_loop().create_future())
        self._queues.setdefault(user, deque()).append(mine)
        self._waiting += 1
        alarm = asyncio.ensure_future(self._clock.sleep(self._limits.queue_s))
        try:
            await asyncio.wait([mine.granted, alarm], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if mine.granted.done():
                self._give(model)  # it was granted at the moment of the cancel, and nobody will use it
            else:
                self._leave(user, mine)
            raise
        finally:
            alarm.cancel()
        if not mine.granted.done():
            self._leave(user, mine)
            raise _refused(f"no call to a model became free within {self._limits.queue_s:g} s", self._limits.queue_s)

    def _give(self, model: str) -> None:
        self._running -= 1
        self._running_of[model] -= 1
        if not self._running_of[model]:
            del self._running_of[model]
        self._grant()

    def _grant(self) -> None:
        """Hand out what is free, to the first call that may start of each user in turn."""
        while (found := self._next()) is not None:
            user, mine = found
            self._leave_queue(user, mine)
            if user in self._queues:
                self._queues.move_to_end(user)
            self._start(mine.model)
            mine.granted.set_result(None)

    def _next(self) -> tuple[str, _Waiting] | None:
        if self._limits.calls and self._running >= self._limits.calls:
            return None
        candidates = ((user, mine) for user, queue in self._queues.items() for mine in queue)
        return next(((user, mine) for user, mine in candidates if self._is_free(mine.model)), None)

    def _leave(self, user: str, mine: _Waiting) -> None:
        self._leave_queue(user, mine)
        mine.granted.cancel()

    def _leave_queue(self, user: str, mine: _Waiting) -> None:
        queue = self._queues[user]
        queue.remove(mine)
        if not queue:
            del self._queues[user]
        self._waiting -= 1

    def _start(self, model: str) -> None:
        self._running += 1
        self._running_of[model] = self._running_of.get(model, 0) + 1

    def _is_free(self, model: str) -> bool:
        most, most_of_one = self._limits.calls, self._limits.calls_per_model
        return (not most or self._running < most) and (not most_of_one or self._running_of.get(model, 0) < most_of_one)


class LimitedLLM:
    """An `LLM` whose calls wait for a slot first. A call keeps its slot while it waits to be repeated."""

    def __init__(self, llm: LLM, slots: FairSlots) -> None:
        self._llm = llm
        self._slots = slots

    @property
    def default_model(self) -> str:
        return self._llm.default_model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        yield Queued()
        async with self._slots.slot(request.user_ref or "", request.model or self._llm.default_model):
            yield Sending()
            inner = cast("AsyncGenerator[StreamItem, None]", self._llm.stream(request))
            async with aclosing(inner) as items:
                async for item in items:
                    yield item

    async def models(self) -> tuple[ModelInfo, ...]:
        return await self._llm.models()

    async def generation(self, generation_id: str, *, within_s: float = 30.0) -> GenerationRecord | None:
        """See `Generations`; None of a model that is none."""
        if not hasattr(self._llm, "generation"):
            return None
        return await cast("Generations", self._llm).generation(generation_id, within_s=within_s)

    async def aclose(self) -> None:
        await self._llm.aclose()


def _refused(why: str, retry_after_s: float) -> ModelUnavailable:
    return ModelUnavailable(why, cause="limit", retry_after_s=retry_after_s, not_sent=True, free=True)
