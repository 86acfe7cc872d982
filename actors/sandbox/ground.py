"""The ground of a backend: what all its sandboxes share, prepared once, by the first that needs it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from ..core.errors import SandboxUnavailable
from .rootfs import CannotBuild
from .unavailable import unavailable

Prepared = TypeVar("Prepared")


class Ground(Generic[Prepared]):
    """What `prepare` returns. It may block: it runs in `threads`, by default in the event loop's own.

    Those who come while it is prepared wait for it. Where that fails with `CannotBuild` each of them tries again,
    and what is missing is told as `SandboxUnavailable`.
    """

    def __init__(self, prepare: Callable[[], Prepared], threads: Executor | None = None) -> None:
        self._prepare = prepare
        self._threads = threads
        self._preparing = asyncio.Lock()  # guards `_prepared`, which is made once
        self._prepared: Prepared | None = None
        self._closed = False

    async def get(self) -> Prepared:
        """Raises SandboxUnavailable, after `close` always."""
        if self._closed:
            raise SandboxUnavailable("The sandbox backend is closed.")
        async with self._preparing:
            prepared = self._prepared
            if prepared is None:
                try:
                    prepared = await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare)
                except CannotBuild as error:
                    raise unavailable(error.missing) from error
                self._prepared = prepared
            return prepared

    def forget(self) -> None:
        """A part of it is there no more: the next who needs it prepares it anew."""
        self._prepared = None

    def close(self) -> Prepared | None:
        """Nothing is made on it from here on. Returns what there is to clear away."""
        self._closed = True
        return self._prepared
