"""What runs for sessions, or waits to: each can be ended without ending the caller that waits for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .fence import current

T = TypeVar("T")


class Interrupted(Exception):
    """It was ended by `Running.interrupt`."""


class Running:
    """Tasks by session, each with the epoch in whose name it was asked for."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[asyncio.Task[Any], int | None]] = {}

    async def run(self, session_id: str, work: Coroutine[Any, Any, T]) -> T:
        """In a task of its own. Raises `Interrupted`; cancelling the caller ends it too."""
        task = asyncio.create_task(work, name=f"sandbox of {session_id}")
        tasks = self._tasks.setdefault(session_id, {})
        tasks[task] = current().epoch
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            raise Interrupted from None
        finally:
            del tasks[task]
            if not tasks and self._tasks.get(session_id) is tasks:
                del self._tasks[session_id]

    def interrupt(self, session_id: str, *, before_epoch: int | None = None) -> set[asyncio.Task[Any]]:
        """Cancel what runs for a session; with `before_epoch` only that in the name of an earlier one. Returns it."""
        found = {
            task
            for task, epoch in self._tasks.get(session_id, {}).items()
            if before_epoch is None or (epoch is not None and epoch < before_epoch)
        }
        for task in found:
            if not task.cancelling():  # a second cancel would cut short the killing of what runs
                task.cancel()
        return found
