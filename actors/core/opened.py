"""Something that is opened at its first use."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Opened(Generic[T]):
    """Opens once, however many ask at the same time; after a failure the next one who asks tries again.

    Actors open what they need so: Ray restarts an actor by its constructor alone, which cannot await.
    """

    def __init__(self, opening: Callable[[], Awaitable[T]]) -> None:
        self._opening = opening
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """What was opened. Raises what opening raises."""
        if self._task is None or _failed(self._task):
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(self._task)

    async def _run(self) -> T:
        return await self._opening()


def _failed(task: asyncio.Task[T]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
