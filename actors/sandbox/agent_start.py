"""The start of an agent: its processes on a thread that stays, the connection to it, and its end where that fails."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from .canary import diagnose
from .channel import AgentChannel, ChannelClosed
from .unavailable import unavailable

_START_S = 20.0


class Enclosed(Protocol):
    """The processes that hold an agent. Its methods block for a moment."""

    def message(self) -> str:
        """What they said before the agent could speak."""
        ...

    def end(self) -> None: ...


Held = TypeVar("Held", bound=Enclosed)


async def start_agent(
    starter: ThreadPoolExecutor, start: Callable[[socket.socket], Held], settle: Callable[[Held], int]
) -> tuple[Held, AgentChannel, int]:
    """Start it, connect to it, and take the last steps before tool code may run: with what those returned.

    `start` runs on the thread of `starter` and gets the agent's end of the connection. Raises SandboxUnavailable, and
    then nothing is left of it.
    """
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise unavailable(diagnose(f"launcher: {error}")) from error
    starting = starter.submit(start, theirs)
    try:
        held = await asyncio.shield(asyncio.wrap_future(starting))
    except asyncio.CancelledError:
        ours.close()
        starting.add_done_callback(lambda done: _end_unwanted(starter, done))
        raise
    except OSError as error:
        ours.close()
        raise unavailable(diagnose(f"launcher: {error}")) from error
    try:
        channel = AgentChannel()
        await connect(ours, channel, channel)
        settled = await asyncio.to_thread(settle, held)
    except BaseException as error:
        message = held.message()
        await asyncio.shield(asyncio.to_thread(held.end))
        if isinstance(error, ChannelClosed | TimeoutError | OSError | ValueError):
            raise unavailable(diagnose(message or str(error))) from error
        raise
    return held, channel, settled


async def connect(ours: socket.socket, protocol: asyncio.BaseProtocol, channel: AgentChannel) -> None:
    """Wait until the agent is ready; `protocol` feeds the channel. Takes the socket over.

    Raises ChannelClosed, TimeoutError and OSError.
    """
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: protocol, sock=ours)
    except BaseException:
        ours.close()
        raise
    try:
        async with asyncio.timeout(_START_S):
            await channel.ready
    except BaseException:
        channel.close()
        raise


def _end_unwanted(starter: ThreadPoolExecutor, starting: "Future[Held]") -> None:
    if starting.cancelled() or starting.exception():
        return
    held = starting.result()
    try:
        starter.submit(held.end)
    except RuntimeError:  # the backend is being closed, and waits for this
        held.end()
