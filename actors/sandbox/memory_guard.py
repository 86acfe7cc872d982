"""Stops a command that holds more memory than it may, where the kernel would end the whole sandbox for it.

To the host's kernel the programs in a sandbox with a kernel of its own are one: it cannot end the guilty one alone. So
the limit of the control group lies above the sandbox's, and in between there is somebody who looks.
"""

import asyncio
from collections.abc import Callable

from .base import Verdict

_LOOK_S = 0.01
_RETURN_S = 1.0
"""What an earlier command held may take so long to be given back."""


class MemoryGuard:
    """A `Watch` of an `AgentSandbox`. `usage` tells the bytes held now, in microseconds: it runs on the event loop."""

    def __init__(self, usage: Callable[[], int], ceiling_bytes: int) -> None:
        self._usage = usage
        self._ceiling_bytes = ceiling_bytes

    def __call__(self, stop: Callable[[Verdict], None]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        not_ours_until = loop.time() + _RETURN_S
        next_look: asyncio.TimerHandle

        def look() -> None:
            nonlocal next_look, not_ours_until
            if self._usage() <= self._ceiling_bytes:
                not_ours_until = 0.0
            elif loop.time() > not_ours_until:
                stop("oom")
                return
            next_look = loop.call_later(_LOOK_S, look)

        next_look = loop.call_later(_LOOK_S, look)

        def unwatch() -> None:
            next_look.cancel()

        return unwatch
